import type { Status } from "../state/status";
import { Icon } from "./icon";

/** Icon and label of a state. */
export function Badge({ status: { label, shape, tone } }: { readonly status: Status }) {
  return (
    <span class={`badge tone-${tone}`}>
      <Icon name={shape} />
      {label}
    </span>
  );
}
