// Light or dark theme. The system's theme applies unless the user has chosen a theme in this browser.

import { computed, effect, signal } from "@preact/signals";
import { loadChoice } from "./stored_choice";

const KEY = "nvision-hub.theme";
const THEMES = ["light", "dark"] as const;
type Theme = (typeof THEMES)[number];

const chosen = signal<Theme | null>(loadChoice(KEY, THEMES, null));
const system = window.matchMedia("(prefers-color-scheme: dark)");
const isSystemDark = signal(system.matches);
system.addEventListener("change", () => {
  isSystemDark.value = system.matches;
});

export const theme = computed<Theme>(() => chosen.value ?? (isSystemDark.value ? "dark" : "light"));

effect(() => {
  document.documentElement.dataset.theme = theme.value;
});

export function toggleTheme(): void {
  const other = theme.value === "dark" ? "light" : "dark";
  chosen.value = other;
  localStorage.setItem(KEY, other);
}
