import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { ordered } from "../look/announce";

interface Props<T> {
  readonly order: () => Promise<T>;
  /** What to say once it is done: a sentence, or what makes one of what came back. */
  readonly done: string | ((outcome: T) => string);
  readonly children: ComponentChildren;
  readonly label?: string;
  readonly class?: string;
  readonly disabled?: boolean;
}

/** Gives an order, cannot be pressed again until that is carried out, and says how it went. */
export function OrderButton<T>({ order, done, children, label, disabled = false, ...rest }: Props<T>) {
  const [busy, setBusy] = useState(false);
  const press = async () => {
    setBusy(true);
    await ordered(order, done);
    setBusy(false);
  };
  return (
    <button
      type="button"
      class={rest.class ?? "button"}
      disabled={disabled || busy}
      aria-busy={busy}
      aria-label={label}
      title={label}
      onClick={press}
    >
      {children}
    </button>
  );
}
