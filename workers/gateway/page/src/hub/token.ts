// The token that the gateway asks for, kept for as long as this tab lives.

import { signal } from "@preact/signals";

const KEY = "nvision-hub.token";

export const token = signal<string | null>(sessionStorage.getItem(KEY));

/** Why a token is asked for, as a sentence; null while none is. */
export const tokenWanted = signal<string | null>(null);

export function useToken(given: string): void {
  sessionStorage.setItem(KEY, given);
  token.value = given;
  tokenWanted.value = null;
}

export function wantToken(): void {
  tokenWanted.value =
    token.value === null
      ? "This hub asks for a token: the one that cameras.yaml has under gateway."
      : "The hub does not accept this token.";
}
