// Light or dark: as the system has it, unless a person has said otherwise on this machine.

import { computed, effect, signal } from "@preact/signals";

const KEY = "nvision-hub.theme";

export type Theme = "light" | "dark";

const chosen = signal<Theme | null>(remembered());
const system = window.matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(system.matches);
system.addEventListener("change", () => {
  systemDark.value = system.matches;
});

export const theme = computed<Theme>(() => chosen.value ?? (systemDark.value ? "dark" : "light"));

effect(() => {
  document.documentElement.dataset.theme = theme.value;
});

export function toggleTheme(): void {
  const other = theme.value === "dark" ? "light" : "dark";
  chosen.value = other;
  localStorage.setItem(KEY, other);
}

function remembered(): Theme | null {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : null;
}
