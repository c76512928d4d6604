import { useSignal } from "@preact/signals";
import { deadLetters, replay } from "../hub/api";
import { type DeadLetter, detections } from "../hub/model";
import { ordered } from "../look/announce";
import { results, tallied } from "../look/wording";
import { OrderButton } from "../parts/button";

const SHOWN = 50;

/** What an endpoint would not take, ten times; asked for when somebody opens it. */
export function DeadLetters({ webhook }: { readonly webhook: string }) {
  const letters = useSignal<readonly DeadLetter[] | null>(null);
  const opened = (event: Event) => {
    if ((event.currentTarget as HTMLDetailsElement).open) {
      void ordered(
        async () => {
          letters.value = await deadLetters(webhook, SHOWN);
        },
        () => "",
      );
    }
  };
  return (
    <details onToggle={opened}>
      <summary>What was given up on</summary>
      <OrderButton
        order={() => replay(webhook, { dead: true })}
        done={(queued) => `${results(queued)} are delivered to ${webhook} again.`}
      >
        Deliver them again
      </OrderButton>
      {letters.value !== null && (
        <ul class="letters">
          {letters.value.map((letter, place) => (
            <li key={`${letter.event.hub.id}-${place}`}>
              <b>{letter.event.hub.camera}</b> {tallied(detections(letter.event).map(({ name }) => name))}
              <span class="fault">
                {letter.reason}, {letter.attempts} attempts
              </span>
            </li>
          ))}
        </ul>
      )}
    </details>
  );
}
