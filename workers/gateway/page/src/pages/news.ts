// What the hub tells of itself, in words.

import type { News } from "../hub/model";
import { cameraLook, webhookLook } from "../hub/states";
import { results, spoken } from "../look/wording";

/** What a piece of news is about. */
export function subject({ camera, webhook, worker }: News): string {
  return camera ?? webhook ?? worker ?? "hub";
}

/** A piece of news as a line of the journal. */
export function told(event: News): string {
  const why = [event.reason === undefined ? null : spoken(event.reason), event.error].filter(Boolean).join(", ");
  return why === "" ? what(event) : `${what(event)}: ${why}`;
}

function what({ kind, state, count = 0, restarts = 0 }: News): string {
  switch (kind) {
    case "worker_restart":
      return restarts > 1 ? `Started again (${restarts} times now)` : "Started again";
    case "loss":
      return `${results(count)} lost`;
    case "webhook_missed":
      return `${results(count)} left Redis before their delivery`;
    case "webhook_state":
      return webhookLook(state ?? "").label;
    default:
      return state === undefined ? spoken(kind) : cameraLook(state).label;
  }
}
