// Which cameras are on the screen at this moment: only these are watched, and none while the tab is hidden.

import { computed, signal } from "@preact/signals";

const inView = signal<readonly string[]>([]);
const tabHidden = signal(document.hidden);

document.addEventListener("visibilitychange", () => {
  tabHidden.value = document.hidden;
});

/** How large the pictures are shown, in pixels of the screen; the wall's tiles are all alike. */
export const shownWidth = signal(640);

const counts = new Map<string, number>(); // a camera may be shown twice
const cameraOf = new WeakMap<Element, string>();
const visible = new WeakSet<Element>();

const observer = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      seen(target, isIntersecting);
    }
    publish();
  },
  { rootMargin: "80px" }, // what is about to be scrolled to
);

function seen(element: Element, now: boolean): void {
  const camera = cameraOf.get(element);
  if (camera === undefined || visible.has(element) === now) {
    return;
  }
  if (now) {
    visible.add(element);
  } else {
    visible.delete(element);
  }
  const count = (counts.get(camera) ?? 0) + (now ? 1 : -1);
  if (count > 0) {
    counts.set(camera, count);
  } else {
    counts.delete(camera);
  }
}

function publish(): void {
  const now = [...counts.keys()].sort();
  if (now.join() !== inView.peek().join()) {
    inView.value = now;
  }
}

/** Watch a camera for as long as this element is on the screen. Call what is returned when it goes. */
export function whileInView(element: Element, camera: string): () => void {
  cameraOf.set(element, camera);
  observer.observe(element);
  return () => {
    observer.unobserve(element);
    seen(element, false);
    publish();
  };
}

const WIDTHS = [320, 480, 640, 960, 1280, 1920] as const;

/** The smallest width asked for that fills `pixels` of the screen. */
export function previewWidth(pixels: number): number {
  return WIDTHS.find((width) => width >= pixels * 0.9) ?? WIDTHS[WIDTHS.length - 1] ?? 1920;
}

/** Previews a second for each of so many cameras: a full wall is for seeing that all is well. */
export function previewRate(cameras: number): number {
  if (cameras <= 1) {
    return 10;
  }
  if (cameras <= 9) {
    return 5;
  }
  return cameras <= 25 ? 2 : 1;
}

export const watched = computed(() => {
  const cameras = tabHidden.value ? [] : inView.value;
  return { cameras, width: previewWidth(shownWidth.value), fps: previewRate(cameras.length) };
});
