// Which view the address asks for. Every view has one, so that the browser's back, its tabs and links between people work.

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

export const route = computed(() => parsed(hash.value));

/** An address that is none is the wall. */
export function parsed(fragment: string): Route {
  const [view, id] = fragment.replace(/^#\/?/, "").split("/");
  switch (view) {
    case "cameras":
      return id ? { view: "camera", id: decoded(id) } : { view: "wall" };
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

export function go(to: Route): void {
  location.hash = href(to);
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
