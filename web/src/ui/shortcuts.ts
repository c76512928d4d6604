// Keyboard shortcuts, which do not interfere with form fields, open dialogs or the browser's own shortcuts.

import { signal } from "@preact/signals";
import { navigate, route } from "./router";
import { toggleTheme } from "./theme";

export const isHelpOpen = signal(false);

/** Keys and their descriptions, for the help dialog. */
export const SHORTCUTS: readonly (readonly [string, string])[] = [
  ["/", "Filter"],
  ["1", "Cameras"],
  ["2", "Events"],
  ["3", "Webhooks"],
  ["4", "Hub"],
  ["t", "Switch between light and dark theme"],
  ["?", "Show keyboard shortcuts"],
  ["Esc", "Close the dialog, clear the filter, or go back to all cameras"],
];

const ACTIONS: Readonly<Record<string, () => void>> = {
  "/": () => document.getElementById("filter")?.focus(),
  "1": () => navigate({ view: "wall" }),
  "2": () => navigate({ view: "events" }),
  "3": () => navigate({ view: "webhooks" }),
  "4": () => navigate({ view: "hub" }),
  t: toggleTheme,
  "?": () => {
    isHelpOpen.value = true;
  },
};

export function installShortcuts(): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) {
      return;
    }
    const field = event.target instanceof Element && event.target.closest("input, select, textarea");
    if (event.key === "Escape") {
      onEscape(field instanceof HTMLInputElement ? field : null);
    } else if (!field && ACTIONS[event.key] !== undefined) {
      event.preventDefault();
      ACTIONS[event.key]?.();
    }
  });
}

function onEscape(field: HTMLInputElement | null): void {
  if (field !== null) {
    field.value = "";
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.blur();
  } else if (route.value.view !== "wall") {
    navigate({ view: "wall" });
  }
}
