// Page with a live log of the results and hub events of all cameras.

import { useSignal } from "@preact/signals";
import { displayName } from "../api/types";
import { FilterInput } from "../components/filter_input";
import { entries, isPaused, type LogEntry, setPaused, skipped } from "../state/event_log";
import { getCamera } from "../state/fleet";
import { formatCount, formatTime } from "../ui/format";
import { href } from "../ui/router";

export function EventsPage() {
  const filter = useSignal("");
  const hubOnly = useSignal(false);
  const searched = filter.value.toLowerCase();
  const shown = entries.value.filter(
    ({ kind, subject, text }) =>
      (!hubOnly.value || kind === "hub") && `${subject} ${text}`.toLowerCase().includes(searched),
  );
  return (
    <>
      <h1>Events</h1>
      <search class="toolbar">
        <FilterInput text={filter} subject="events" placeholder="Filter by camera or text" />
        <label class="checkbox">
          <input
            type="checkbox"
            checked={hubOnly.value}
            onChange={(event) => {
              hubOnly.value = event.currentTarget.checked;
            }}
          />
          Hide detections
        </label>
        <button type="button" class="button" onClick={() => setPaused(!isPaused.value)}>
          {isPaused.value ? `Resume (${formatCount(skipped.value)} skipped)` : "Pause"}
        </button>
      </search>
      {shown.length === 0 ? (
        <p class="empty">
          {entries.value.length > 0
            ? "No matching events."
            : "No events yet. Detections and state changes appear here as they happen."}
        </p>
      ) : (
        <ol class="event-log" reversed>
          {shown.map((entry) => (
            <Row key={entry.key} entry={entry} />
          ))}
        </ol>
      )}
    </>
  );
}

function Row({ entry }: { readonly entry: LogEntry }) {
  const camera = entry.camera === null ? undefined : getCamera(entry.camera);
  return (
    <li class={`log-entry log-entry-${entry.kind}`}>
      <time dateTime={new Date(entry.at).toISOString()}>{formatTime(entry.at)}</time>
      {entry.camera === null ? (
        <span>{entry.subject}</span>
      ) : (
        <a href={href({ view: "camera", id: entry.camera })}>
          {camera === undefined ? entry.camera : displayName(camera)}
        </a>
      )}
      <span>{entry.text}</span>
    </li>
  );
}
