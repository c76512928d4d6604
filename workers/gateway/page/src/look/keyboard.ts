// Keys for those who look at the page all day. None takes what is meant for a field, a button or the browser.

import { signal } from "@preact/signals";
import { go, route } from "./routes";
import { toggleTheme } from "./theme";

export const helpShown = signal(false);

export const KEYS: readonly (readonly [string, string])[] = [
  ["/", "Filter"],
  ["1", "Cameras"],
  ["2", "Events"],
  ["3", "Webhooks"],
  ["4", "Hub"],
  ["t", "Light or dark"],
  ["?", "These keys"],
  ["Esc", "Close, empty the filter, or go back to all cameras"],
];

const ACTIONS: Readonly<Record<string, () => void>> = {
  "/": () => document.getElementById("filter")?.focus(),
  "1": () => go({ view: "wall" }),
  "2": () => go({ view: "events" }),
  "3": () => go({ view: "webhooks" }),
  "4": () => go({ view: "hub" }),
  t: toggleTheme,
  "?": () => {
    helpShown.value = true;
  },
};

export function listenToKeys(): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) {
      return;
    }
    const field = event.target instanceof Element && event.target.closest("input, select, textarea");
    if (event.key === "Escape") {
      leave(field instanceof HTMLInputElement ? field : null);
    } else if (!field && ACTIONS[event.key] !== undefined) {
      event.preventDefault();
      ACTIONS[event.key]?.();
    }
  });
}

function leave(field: HTMLInputElement | null): void {
  if (field !== null) {
    field.value = "";
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.blur();
  } else if (route.value.view !== "wall") {
    go({ view: "wall" });
  }
}
