import { expect, test } from "vitest";
import type { Role } from "../src/api/types";
import { may, session } from "../src/state/session";

const ROLES: readonly Role[] = ["metrics", "view", "control", "admin"];

test("each role includes the rights of the roles before it", () => {
  for (const [index, role] of ROLES.entries()) {
    session.value = { name: "ops", role, kind: "token" };
    expect(ROLES.filter(may)).toEqual(ROLES.slice(0, index + 1));
  }
});

test("without a session or a role, nothing is allowed", () => {
  session.value = null;
  expect(ROLES.some(may)).toBe(false);
  session.value = { name: "bob", role: null, kind: "proxy" };
  expect(ROLES.some(may)).toBe(false);
});
