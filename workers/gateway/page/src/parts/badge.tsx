import type { Look } from "../hub/states";
import { Icon } from "./icon";

/** A state: its shape, its name, and its colour for those who see it. */
export function Badge({ look }: { readonly look: Look }) {
  return (
    <span class={`badge tone-${look.tone}`}>
      <Icon name={look.shape} />
      {look.label}
    </span>
  );
}
