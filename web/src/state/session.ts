// Signed-in client and the rights of its role. The page only hides commands that the gateway would reject.

import { signal } from "@preact/signals";
import type { Role, Session } from "../api/types";

const ROLES: readonly Role[] = ["metrics", "view", "control", "admin"]; // each includes the rights of those before it

/** Null until the gateway has accepted the page. */
export const session = signal<Session | null>(null);

/** Whether the signed-in client has the rights of a role. */
export function may(role: Role): boolean {
  const own = session.value?.role ?? null;
  return own !== null && ROLES.indexOf(own) >= ROLES.indexOf(role);
}
