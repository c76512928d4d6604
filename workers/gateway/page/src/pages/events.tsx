// Results and news of all cameras as they happen.

import { useSignal } from "@preact/signals";
import { camera as cameraOf } from "../hub/fleet";
import { title } from "../hub/model";
import { href } from "../look/routes";
import { clock, count } from "../look/wording";
import { type Entry, entries, held, hold, missed } from "./journal";

export function Events() {
  const words = useSignal("");
  const newsOnly = useSignal(false);
  const wanted = words.value.toLowerCase();
  const shown = entries.value.filter(
    (entry) =>
      (!newsOnly.value || entry.kind === "news") && `${entry.subject} ${entry.text}`.toLowerCase().includes(wanted),
  );
  return (
    <>
      <h1>Events</h1>
      <search class="tools">
        <input
          id="filter"
          type="search"
          placeholder="Filter by camera or text"
          aria-label="Filter events"
          aria-keyshortcuts="/"
          value={words.value}
          onInput={(event) => {
            words.value = event.currentTarget.value;
          }}
        />
        <label class="check">
          <input
            type="checkbox"
            checked={newsOnly.value}
            onChange={(event) => {
              newsOnly.value = event.currentTarget.checked;
            }}
          />
          News only
        </label>
        <button type="button" class="button" aria-pressed={held.value} onClick={() => hold(!held.value)}>
          {held.value ? `Go on (${count(missed.value)} passed by)` : "Hold"}
        </button>
      </search>
      {shown.length === 0 ? (
        <p class="empty">Nothing yet. What the cameras find, and what becomes of them, is shown here as it happens.</p>
      ) : (
        <ol class="journal" reversed>
          {shown.map((entry) => (
            <Row key={entry.key} entry={entry} />
          ))}
        </ol>
      )}
    </>
  );
}

function Row({ entry }: { readonly entry: Entry }) {
  const camera = entry.camera === null ? undefined : cameraOf(entry.camera);
  return (
    <li class={`entry entry-${entry.kind}`}>
      <time dateTime={new Date(entry.at).toISOString()}>{clock(entry.at)}</time>
      {entry.camera === null ? (
        <span>{entry.subject}</span>
      ) : (
        <a href={href({ view: "camera", id: entry.camera })}>{camera === undefined ? entry.camera : title(camera)}</a>
      )}
      <span>{entry.text}</span>
    </li>
  );
}
