// The gateway's token, stored in this tab's session storage.

import { signal } from "@preact/signals";

const KEY = "nvision-hub.token";

export const token = signal<string | null>(sessionStorage.getItem(KEY));

/** Text of the token prompt; null while the prompt is closed. */
export const tokenPrompt = signal<string | null>(null);

export function saveToken(value: string): void {
  sessionStorage.setItem(KEY, value);
  token.value = value;
  tokenPrompt.value = null;
}

export function promptForToken(isRoleTooLow = false): void {
  if (token.value === null && !isRoleTooLow) {
    tokenPrompt.value = "This hub requires a token. To create one, run nvision-hub token create on its machine.";
  } else if (isRoleTooLow) {
    tokenPrompt.value =
      "Your role does not allow you to view this page. Enter a token with the role view, control or admin.";
  } else {
    tokenPrompt.value = "The hub rejected this token. To create another, run nvision-hub token create on its machine.";
  }
}

/** Forget the token and reload the page, so that no data of the hub stays on the screen. */
export function signOut(): void {
  sessionStorage.removeItem(KEY);
  window.location.reload();
}
