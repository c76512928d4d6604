// Hub events as text for the event log.

import type { HubEvent } from "../api/types";
import { formatResults, humanize } from "../ui/format";
import { cameraStatus, webhookStatus } from "./status";

/** The camera, webhook or process that the event concerns; "hub" if the event names none. */
export function eventSubject({ camera, webhook, worker }: HubEvent): string {
  return camera ?? webhook ?? worker ?? "hub";
}

/** An event as one line: what happened and, if known, the cause. */
export function describeEvent(event: HubEvent): string {
  const cause = [event.reason === undefined ? null : humanize(event.reason), event.error].filter(Boolean).join(", ");
  return cause === "" ? describeKind(event) : `${describeKind(event)}: ${cause}`;
}

function describeKind({ kind, state, count = 0, restarts = 0 }: HubEvent): string {
  switch (kind) {
    case "worker_restart":
      return restarts > 1 ? `Restarted (${restarts} times so far)` : "Restarted";
    case "loss":
      return `${formatResults(count)} lost`;
    case "webhook_missed":
      return `${formatResults(count)} trimmed from Redis before delivery`;
    case "webhook_state":
      return webhookStatus(state ?? "").label;
    default:
      return state === undefined ? humanize(kind) : cameraStatus(state).label;
  }
}
