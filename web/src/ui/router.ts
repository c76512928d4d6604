// Routes in the URL's fragment, so that the back button, tabs and shared links work.

import { computed, signal } from "@preact/signals";

export type Route =
  | { readonly view: "wall" }
  | { readonly view: "camera"; readonly id: string }
  | { readonly view: "events" }
  | { readonly view: "webhooks" }
  | { readonly view: "hub" };

const hash = signal(location.hash);
window.addEventListener("hashchange", () => {
  hash.value = location.hash;
});

export const route = computed(() => parseRoute(hash.value));

/** Parse a fragment; an unknown fragment leads to the wall. */
function parseRoute(fragment: string): Route {
  const [view, id] = fragment.replace(/^#\/?/, "").split("/");
  switch (view) {
    case "cameras":
      return id ? { view: "camera", id: decode(id) } : { view: "wall" };
    case "events":
    case "webhooks":
    case "hub":
      return { view };
    default:
      return { view: "wall" };
  }
}

export function href(to: Route): string {
  switch (to.view) {
    case "wall":
      return "#/";
    case "camera":
      return `#/cameras/${encodeURIComponent(to.id)}`;
    default:
      return `#/${to.view}`;
  }
}

export function navigate(to: Route): void {
  location.hash = href(to);
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
