import type { ComponentChildren } from "preact";

interface Props {
  readonly label: string;
  readonly children: ComponentChildren;
  readonly hint?: string;
}

/** A number and what it is of. */
export function Figure({ label, children, hint }: Props) {
  return (
    <div class="figure" title={hint}>
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}
