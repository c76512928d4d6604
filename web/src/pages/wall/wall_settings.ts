// Filter, sort order and tile size of the wall. The browser stores the sort order and the tile size.

import { computed, effect, signal } from "@preact/signals";
import { cameras } from "../../state/fleet";
import { loadChoice } from "../../ui/stored_choice";
import { filterAndSort, SORT_LABELS, type SortOrder, type StatusFilter } from "./camera_filter";

export type TileSize = "small" | "medium" | "large";
export const SIZE_LABELS: Readonly<Record<TileSize, string>> = { small: "Small", medium: "Medium", large: "Large" };

const ORDER_KEY = "nvision-hub.order";
const SIZE_KEY = "nvision-hub.size";

export const filterText = signal("");
export const statusFilter = signal<StatusFilter>("all");
export const sortOrder = signal(loadChoice(ORDER_KEY, Object.keys(SORT_LABELS) as SortOrder[], "problems"));
export const tileSize = signal(loadChoice(SIZE_KEY, Object.keys(SIZE_LABELS) as TileSize[], "medium"));

effect(() => localStorage.setItem(ORDER_KEY, sortOrder.value));
effect(() => localStorage.setItem(SIZE_KEY, tileSize.value));

export const shownCameras = computed(() =>
  filterAndSort(cameras.value, filterText.value, statusFilter.value, sortOrder.value),
);
