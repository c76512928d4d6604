// Cameras that are visible on the screen, whose previews the page requests. In a hidden tab, no camera is visible.

import { computed, signal } from "@preact/signals";
import type { PreviewRequest } from "../api/live_socket";

const visibleCameras = signal<readonly string[]>([]);
const isTabHidden = signal(document.hidden);

document.addEventListener("visibilitychange", () => {
  isTabHidden.value = document.hidden;
});

/** Width of a preview in device pixels; all tiles of the wall have the same width. */
export const displayWidth = signal(640);

const visibleCount = new Map<string, number>(); // by camera, because several elements may show the same camera
const cameraByElement = new WeakMap<Element, string>();
const visibleElements = new WeakSet<Element>();

const observer = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      setVisible(target, isIntersecting);
    }
    publish();
  },
  { rootMargin: "80px" }, // request previews shortly before an element scrolls into view
);

function setVisible(element: Element, isVisible: boolean): void {
  const camera = cameraByElement.get(element);
  if (camera === undefined || visibleElements.has(element) === isVisible) {
    return;
  }
  if (isVisible) {
    visibleElements.add(element);
  } else {
    visibleElements.delete(element);
  }
  const count = (visibleCount.get(camera) ?? 0) + (isVisible ? 1 : -1);
  if (count > 0) {
    visibleCount.set(camera, count);
  } else {
    visibleCount.delete(camera);
  }
}

function publish(): void {
  const cameras = [...visibleCount.keys()].sort();
  if (cameras.join() !== visibleCameras.peek().join()) {
    visibleCameras.value = cameras;
  }
}

/** Request previews of a camera while its element is on the screen. Return a function that ends the request. */
export function trackVisibility(element: Element, camera: string): () => void {
  cameraByElement.set(element, camera);
  observer.observe(element);
  return () => {
    observer.unobserve(element);
    setVisible(element, false);
    publish();
  };
}

const WIDTHS = [320, 480, 640, 960, 1280, 1920] as const;

/** The smallest width that needs at most about 10 % upscaling to cover `pixels` device pixels; else the largest. */
function previewWidth(pixels: number): number {
  return WIDTHS.find((width) => width >= pixels * 0.9) ?? 1920;
}

/** Previews per second and camera. A large wall serves as an overview and needs fewer. */
function previewFps(cameras: number): number {
  if (cameras <= 1) {
    return 10;
  }
  if (cameras <= 9) {
    return 5;
  }
  return cameras <= 25 ? 2 : 1;
}

/** Previews of the visible cameras. */
export const visiblePreviews = computed<PreviewRequest>(() => {
  const cameras = isTabHidden.value ? [] : visibleCameras.value;
  return { cameras, width: previewWidth(displayWidth.value), fps: previewFps(cameras.length) };
});
