import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { runAction } from "../ui/notifications";

interface Props<T> {
  readonly action: () => Promise<T>;
  /** Notice after success, or a function that creates the notice from the result. */
  readonly success: string | ((result: T) => string);
  readonly children: ComponentChildren;
  readonly label?: string;
  readonly class?: string;
  readonly disabled?: boolean;
}

/** Button that runs an action and shows the outcome. While the action runs, the button is disabled. */
export function ActionButton<T>({ action, success, children, label, disabled = false, ...rest }: Props<T>) {
  const [isBusy, setBusy] = useState(false);
  const onClick = async () => {
    setBusy(true);
    await runAction(action, success);
    setBusy(false);
  };
  return (
    <button
      type="button"
      class={rest.class ?? "button"}
      disabled={disabled || isBusy}
      aria-busy={isBusy}
      aria-label={label}
      title={label}
      onClick={onClick}
    >
      {children}
    </button>
  );
}
