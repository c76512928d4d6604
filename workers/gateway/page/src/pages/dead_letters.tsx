import { useSignal } from "@preact/signals";
import { deadLetters, replay } from "../hub/api";
import { type DeadLetter, detections } from "../hub/model";
import { ordered } from "../look/announce";
import { attempts, count, replayed, tallied } from "../look/wording";
import { OrderButton } from "../parts/button";

const SHOWN = 50;

/** What an endpoint would not take, ten times; asked for when somebody opens it. */
export function DeadLetters({ webhook }: { readonly webhook: string }) {
  const letters = useSignal<readonly DeadLetter[] | null>(null);
  const read = async () => {
    letters.value = await deadLetters(webhook, SHOWN);
  };
  const opened = (event: Event) => {
    if ((event.currentTarget as HTMLDetailsElement).open) {
      void ordered(read, () => "");
    }
  };
  const again = async () => {
    const outcome = await replay(webhook, { dead: true });
    await read();
    return outcome;
  };
  return (
    <details onToggle={opened}>
      <summary>What was given up on</summary>
      {letters.value?.length === 0 && <p class="since">Nothing is kept: all was delivered, or is being tried.</p>}
      {letters.value !== null && letters.value.length > 0 && (
        <>
          <OrderButton order={again} done={(outcome) => replayed(webhook, outcome)}>
            Deliver them again
          </OrderButton>
          <ul class="letters">
            {letters.value.map((letter, place) => (
              <Letter key={`${letter.id}-${place}`} letter={letter} />
            ))}
          </ul>
          {letters.value.length === SHOWN && <p class="since">The newest {count(SHOWN)} are shown.</p>}
        </>
      )}
    </details>
  );
}

function Letter({ letter: { event, reason, attempts: made } }: { readonly letter: DeadLetter }) {
  return (
    <li>
      {event === null ? (
        "A result that cannot be read any more"
      ) : (
        <>
          <b>{event.hub.camera}</b> {tallied(detections(event).map(({ name }) => name))}
        </>
      )}
      <span class="fault">
        {reason}, {attempts(made)}
      </span>
    </li>
  );
}
