import type { ComponentChildren } from "preact";

interface Props {
  readonly label: string;
  readonly children: ComponentChildren;
  readonly hint?: string;
}

/** A value with its label, for a definition list. */
export function Stat({ label, children, hint }: Props) {
  return (
    <div class="stat" title={hint}>
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}
