// What is around every view: where one is, whether the hub is heard, what was just ordered.

import type { ComponentChildren } from "preact";
import { cameras, connection, hub, toldAt } from "../hub/fleet";
import { inTrouble } from "../hub/states";
import { announced, notice } from "../look/announce";
import { now } from "../look/clock";
import { helpShown } from "../look/keyboard";
import { href, type Route, route } from "../look/routes";
import { theme, toggleTheme } from "../look/theme";
import { ago, clock } from "../look/wording";
import { Icon } from "../parts/icon";

const VIEWS = [
  ["wall", "Cameras"],
  ["events", "Events"],
  ["webhooks", "Webhooks"],
  ["hub", "Hub"],
] as const;

interface Props {
  readonly children: ComponentChildren;
  readonly onRetry: () => void;
}

export function Frame({ children, onRetry }: Props) {
  const stale = connection.value.phase !== "open" && toldAt.value !== null;
  return (
    <>
      <button type="button" class="skip button" onClick={() => document.getElementById("main")?.focus()}>
        To the content
      </button>
      <header class="top">
        <p class="brand">
          <b>nvision-hub</b> <span>{hub.value?.site}</span>
        </p>
        <nav aria-label="Views">
          {VIEWS.map(([view, label]) => (
            <a key={view} href={href({ view })} aria-current={isIn(route.value, view) ? "page" : undefined}>
              <Icon name={view} />
              {label}
            </a>
          ))}
        </nav>
        <Heard />
        <button
          type="button"
          class="button button-icon"
          aria-label="Light or dark"
          title="Light or dark (t)"
          onClick={toggleTheme}
        >
          <Icon name={theme.value === "dark" ? "sun" : "moon"} />
        </button>
        <button
          type="button"
          class="button button-icon wide-only"
          aria-label="Keys"
          title="Keys (?)"
          onClick={() => {
            helpShown.value = true;
          }}
        >
          <Icon name="keyboard" />
        </button>
      </header>
      {stale && <Disconnected onRetry={onRetry} />}
      <main id="main" tabIndex={-1} class={stale ? "stale" : undefined}>
        {children}
      </main>
      <Notices />
      <p class="unseen" aria-live="polite">
        {announced.value}
      </p>
    </>
  );
}

function isIn(at: Route, view: string): boolean {
  return at.view === view || (at.view === "camera" && view === "wall");
}

function Heard() {
  const { phase } = connection.value;
  const live = phase === "open";
  const troubled = cameras.value.filter(inTrouble).length;
  document.title = `${troubled > 0 ? `(${troubled}) ` : ""}${hub.value?.site ?? "nvision-hub"}${live ? "" : ", not connected"}`;
  return (
    <span class={`heard tone-${live ? "good" : "waiting"}`} role="status">
      <Icon name={live ? "play" : "ring"} />
      {live ? "Live" : phase === "lost" ? "Not connected" : "Connecting"}
    </span>
  );
}

function Disconnected({ onRetry }: { readonly onRetry: () => void }) {
  const lost = connection.value;
  const told = toldAt.value ?? 0;
  const left = lost.phase === "lost" ? Math.max(0, Math.ceil((lost.retryAt - now.value) / 1000)) : 0;
  return (
    <div class="disconnected" role="alert">
      <Icon name="warning" />
      <span>
        <b>The hub is not heard.</b> What you see is old: it is of {clock(told)},{" "}
        <span aria-hidden="true">{ago(told, now.value)}</span>.{" "}
        <span aria-hidden="true">{left > 0 ? `Trying again in ${left} s.` : "Trying again."}</span>
      </span>
      <button type="button" class="button" onClick={onRetry}>
        Try now
      </button>
    </div>
  );
}

function Notices() {
  const told = notice.value;
  return (
    <div class="notices" role="status">
      {told !== null && (
        <p class={`notice tone-${told.tone}`}>
          <Icon name={told.tone === "good" ? "check" : "warning"} />
          {told.text}
          <button
            type="button"
            class="button button-icon"
            aria-label="Dismiss"
            onClick={() => {
              notice.value = null;
            }}
          >
            <Icon name="close" />
          </button>
        </p>
      )}
    </div>
  );
}
