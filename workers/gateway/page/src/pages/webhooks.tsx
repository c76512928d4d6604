// Where results are posted to: how far each endpoint is behind, what failed, and what can be done about it.

import { useSignal } from "@preact/signals";
import { orderWebhook, replay } from "../hub/api";
import { webhooks } from "../hub/fleet";
import type { Webhook } from "../hub/model";
import { webhookLook } from "../hub/states";
import { ordered, tell } from "../look/announce";
import { now } from "../look/clock";
import { ago, count, duration, localMinute, replayed } from "../look/wording";
import { Badge } from "../parts/badge";
import { OrderButton } from "../parts/button";
import { Figure } from "../parts/figure";
import { DeadLetters } from "./dead_letters";

export function Webhooks() {
  return (
    <>
      <h1>Webhooks</h1>
      {webhooks.value.length === 0 ? (
        <p class="empty">
          No webhooks. An entry under <code>webhooks:</code> in cameras.yaml has results posted to a server of yours.
        </p>
      ) : (
        <ul class="cards">
          {webhooks.value.map((webhook) => (
            <Card key={webhook.id} webhook={webhook} />
          ))}
        </ul>
      )}
    </>
  );
}

function Card({ webhook }: { readonly webhook: Webhook }) {
  const { id } = webhook;
  return (
    <li class="card" data-webhook={id}>
      <header class="card-head">
        <h2>{id}</h2>
        <Badge look={webhookLook(webhook.state)} />
        <span class="address">{webhook.url}</span>
      </header>
      <dl class="figures">
        <Figure label="waiting">{count(webhook.pending)}</Figure>
        <Figure label="being retried">{count(webhook.retrying)}</Figure>
        <Figure label="given up on">{count(webhook.dead)}</Figure>
        <Figure label="delivered">{count(webhook.delivered)}</Figure>
        <Figure label="failed attempts">{count(webhook.failed)}</Figure>
        <Figure label="p50">{webhook.p50_s === null ? "–" : duration(webhook.p50_s)}</Figure>
        <Figure label="p99">{webhook.p99_s === null ? "–" : duration(webhook.p99_s)}</Figure>
        <Figure label="last delivery">
          {webhook.last_delivery_at === null ? "none" : ago(webhook.last_delivery_at, now.value)}
        </Figure>
      </dl>
      {webhook.last_error !== null && <p class="fault">{webhook.last_error}</p>}
      <div class="actions">
        <OrderButton order={() => orderWebhook(id, "test")} done={`A test is on its way to ${id}.`}>
          Send a test
        </OrderButton>
        {webhook.state === "disabled" && (
          <OrderButton order={() => orderWebhook(id, "enable")} done={`${id} is enabled.`}>
            Enable
          </OrderButton>
        )}
        <Replay webhook={id} />
      </div>
      <DeadLetters webhook={id} />
    </li>
  );
}

const HOUR_MS = 3_600_000;

function Replay({ webhook }: { readonly webhook: string }) {
  const since = useSignal(localMinute(Date.now() - HOUR_MS));
  const send = (event: Event) => {
    event.preventDefault();
    const instant = new Date(since.value); // the field holds this machine's time of day
    if (Number.isNaN(instant.getTime())) {
      tell("Say since when results are to be delivered again.", "bad");
      return;
    }
    void ordered(
      () => replay(webhook, { since: instant.toISOString() }),
      (outcome) => replayed(webhook, outcome),
    );
  };
  return (
    <form class="replay" onSubmit={send}>
      <label>
        Deliver again since{" "}
        <input
          type="datetime-local"
          value={since.value}
          onInput={(event) => {
            since.value = event.currentTarget.value;
          }}
        />
      </label>
      <button type="submit" class="button">
        Replay
      </button>
    </form>
  );
}
