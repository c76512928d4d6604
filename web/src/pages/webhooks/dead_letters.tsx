import { useSignal } from "@preact/signals";
import { getDeadLetters, replayWebhook } from "../../api/client";
import { allDetections, type DeadLetter } from "../../api/types";
import { ActionButton } from "../../components/action_button";
import { may } from "../../state/session";
import { countNames, describeReplay, pluralize } from "../../ui/format";
import { runAction } from "../../ui/notifications";

const MAX_SHOWN = 50;

/** Dead letters of a webhook, loaded when the list is expanded. */
export function DeadLetters({ webhook }: { readonly webhook: string }) {
  const letters = useSignal<readonly DeadLetter[] | null>(null);
  const load = async () => {
    letters.value = await getDeadLetters(webhook, MAX_SHOWN);
  };
  const onToggle = (event: Event) => {
    if ((event.currentTarget as HTMLDetailsElement).open) {
      void runAction(load);
    }
  };
  const replay = async () => {
    const outcome = await replayWebhook(webhook, { dead: true });
    await load();
    return outcome;
  };
  return (
    <details onToggle={onToggle}>
      <summary>Dead letters</summary>
      {letters.value?.length === 0 && <p class="muted">No dead letters.</p>}
      {letters.value !== null && letters.value.length > 0 && (
        <>
          {may("admin") && (
            <ActionButton action={replay} success={(outcome) => describeReplay(webhook, outcome)}>
              Replay dead letters
            </ActionButton>
          )}
          <ul class="dead-letters">
            {letters.value.map((letter, index) => (
              <Letter key={`${letter.id}-${index}`} letter={letter} />
            ))}
          </ul>
          {letters.value.length === MAX_SHOWN && <p class="muted">Showing the newest {MAX_SHOWN}.</p>}
        </>
      )}
    </details>
  );
}

function Letter({ letter: { event, reason, attempts } }: { readonly letter: DeadLetter }) {
  return (
    <li>
      {event === null ? (
        "Unreadable result"
      ) : (
        <>
          <b>{event.hub.camera}</b> {countNames(allDetections(event).map(({ name }) => name))}
        </>
      )}
      <span class="error-text">
        {reason}, {pluralize(attempts, "attempt")}
      </span>
    </li>
  );
}
