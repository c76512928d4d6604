// Icons. Each icon accompanies text or a label, so screen readers skip the icon.

import type { Shape } from "../state/status";

type Name =
  | Shape
  | "sun"
  | "moon"
  | "keyboard"
  | "close"
  | "back"
  | "wall"
  | "events"
  | "webhooks"
  | "hub"
  | "check"
  | "user"
  | "exit";

const PATHS: Readonly<Record<Name, string>> = {
  play: "M5 3.2v9.6l7.5-4.8z",
  pause: "M4.5 3v10M11.5 3v10",
  ring: "M8 2.5a5.5 5.5 0 1 0 5.5 5.5",
  cross: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  lock: "M3.5 7.5h9v6h-9zM5.5 7.5v-2a2.5 2.5 0 0 1 5 0v2",
  warning: "M8 2.2l6.3 11.3H1.7zM8 6.5v3.2M8 11.6v.3",
  question: "M5 5.5a3 3 0 1 1 4.2 2.8C8.3 8.8 8 9.3 8 10.2M8 12.8v.3",
  loop: "M13 8a5 5 0 1 1-1.6-3.7M13 2.5v3h-3",
  stop: "M4 4h8v8H4z",
  sun: "M8 5a3 3 0 1 0 .01 0zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1.1 1.1M11.9 11.9L13 13M13 3l-1.1 1.1M4.1 11.9L3 13",
  moon: "M13.5 9.5A6 6 0 1 1 6.5 2.5a4.7 4.7 0 0 0 7 7z",
  keyboard: "M1.5 4h13v8.5h-13zM4 6.7h.1M7 6.7h.1M10 6.7h.1M12 6.7h.1M5 10h6",
  close: "M4 4l8 8M12 4l-8 8",
  back: "M10 3L5 8l5 5",
  wall: "M2 2.5h5v4.5H2zM9 2.5h5v4.5H9zM2 9h5v4.5H2zM9 9h5v4.5H9z",
  events: "M5.5 4H14M5.5 8H14M5.5 12H14M2 4h.5M2 8h.5M2 12h.5",
  webhooks: "M2 8h9M8 4.5L11.5 8 8 11.5M14 3v10",
  hub: "M3 3h10v4H3zM3 9h10v4H3zM5.5 5h.1M5.5 11h.1",
  user: "M8 2.5a2.7 2.7 0 1 0 .01 0zM2.8 13.8c.5-2.9 2.5-4.4 5.2-4.4s4.7 1.5 5.2 4.4",
  exit: "M9 2.8H3.2v10.4H9M6.8 8h7.4M11.4 5.2L14.2 8l-2.8 2.8",
  check: "M3 8.5l3.5 3.5L13 4.5",
};

export function Icon({ name }: { readonly name: Name }) {
  return (
    <svg class={`icon icon-${name}`} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
