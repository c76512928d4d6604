/** The choice stored in this browser; `fallback` if none of `choices` is stored. */
export function loadChoice<T extends string, F>(key: string, choices: readonly T[], fallback: F): T | F {
  const stored = localStorage.getItem(key);
  return choices.find((choice) => choice === stored) ?? fallback;
}
