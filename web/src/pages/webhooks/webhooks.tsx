// Webhooks: state, backlog and failures of each endpoint, and commands to test, enable and replay.

import { useSignal } from "@preact/signals";
import { replayWebhook, sendWebhookCommand } from "../../api/client";
import type { Webhook } from "../../api/types";
import { ActionButton } from "../../components/action_button";
import { Badge } from "../../components/badge";
import { Stat } from "../../components/stat";
import { webhooks } from "../../state/fleet";
import { may } from "../../state/session";
import { webhookStatus } from "../../state/status";
import { now } from "../../ui/clock";
import { describeReplay, formatAge, formatCount, formatDuration, toDatetimeLocal, UNKNOWN } from "../../ui/format";
import { notify, runAction } from "../../ui/notifications";
import { DeadLetters } from "./dead_letters";

export function WebhooksPage() {
  return (
    <>
      <h1>Webhooks</h1>
      {webhooks.value.length === 0 ? (
        <p class="empty">
          No webhooks. To send results to your server, add an entry under <code>webhooks:</code> in cameras.yaml.
        </p>
      ) : (
        <ul class="cards">
          {webhooks.value.map((webhook) => (
            <WebhookCard key={webhook.id} webhook={webhook} />
          ))}
        </ul>
      )}
    </>
  );
}

function WebhookCard({ webhook }: { readonly webhook: Webhook }) {
  const { id } = webhook;
  return (
    <li class="card" data-webhook={id}>
      <header class="card-header">
        <h2>{id}</h2>
        <Badge status={webhookStatus(webhook.state)} />
        <span class="url">{webhook.url}</span>
      </header>
      <dl class="stats">
        <Stat label="Pending">{formatCount(webhook.pending)}</Stat>
        <Stat label="Retrying">{formatCount(webhook.retrying)}</Stat>
        <Stat label="Dead letters">{formatCount(webhook.dead)}</Stat>
        <Stat label="Delivered">{formatCount(webhook.delivered)}</Stat>
        <Stat label="Failed attempts">{formatCount(webhook.failed)}</Stat>
        <Stat label="Delivery time, p50 and p99">
          {webhook.p50_s === null || webhook.p99_s === null
            ? UNKNOWN
            : `${formatDuration(webhook.p50_s)}, ${formatDuration(webhook.p99_s)}`}
        </Stat>
        <Stat label="Last delivery">
          {webhook.last_delivery_at === null ? "none" : formatAge(webhook.last_delivery_at, now.value)}
        </Stat>
      </dl>
      {webhook.last_error !== null && <p class="error-text">{webhook.last_error}</p>}
      {may("admin") && <WebhookActions webhook={webhook} />}
      <DeadLetters webhook={id} />
    </li>
  );
}

function WebhookActions({ webhook }: { readonly webhook: Webhook }) {
  const { id } = webhook;
  return (
    <div class="actions">
      <ActionButton action={() => sendWebhookCommand(id, "test")} success={`Queued a test event for ${id}.`}>
        Send test event
      </ActionButton>
      {webhook.state === "disabled" && (
        <ActionButton action={() => sendWebhookCommand(id, "enable")} success={`Enabled ${id}.`}>
          Enable
        </ActionButton>
      )}
      <ReplayForm webhook={id} />
    </div>
  );
}

const HOUR_MS = 3_600_000;

function ReplayForm({ webhook }: { readonly webhook: string }) {
  const since = useSignal(toDatetimeLocal(Date.now() - HOUR_MS));
  const submit = (event: Event) => {
    event.preventDefault();
    const instant = new Date(since.value); // the field contains a local time
    if (Number.isNaN(instant.getTime())) {
      notify("Enter the date and time from which to replay.", "bad");
      return;
    }
    void runAction(
      () => replayWebhook(webhook, { since: instant.toISOString() }),
      (outcome) => describeReplay(webhook, outcome),
    );
  };
  return (
    <form class="replay" onSubmit={submit}>
      <label>
        Results since{" "}
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
