// How a person wants the wall: kept on this machine, but for what is searched for.

import { computed, effect, signal } from "@preact/signals";
import { cameras } from "../hub/fleet";
import { arranged, type Group, ORDERS, type Order } from "./arrange";

export type Size = "small" | "medium" | "large";
export const SIZES: Readonly<Record<Size, string>> = { small: "Small", medium: "Medium", large: "Large" };

export const words = signal("");
export const group = signal<Group>("all");
export const order = signal<Order>(remembered("nvision-hub.order", ORDERS, "problems"));
export const size = signal<Size>(remembered("nvision-hub.size", SIZES, "medium"));

effect(() => localStorage.setItem("nvision-hub.order", order.value));
effect(() => localStorage.setItem("nvision-hub.size", size.value));

export const onTheWall = computed(() => arranged(cameras.value, words.value, group.value, order.value));

function remembered<T extends string>(key: string, known: Readonly<Record<T, string>>, otherwise: T): T {
  const kept = localStorage.getItem(key);
  return kept !== null && kept in known ? (kept as T) : otherwise;
}
