// Layout around every page: navigation, connection status and notices.

import type { ComponentChildren } from "preact";
import { signOut } from "../api/token";
import { Icon } from "../components/icon";
import { cameras, connection, hub, updatedAt } from "../state/fleet";
import { session } from "../state/session";
import { isFailing } from "../state/status";
import { now } from "../ui/clock";
import { formatAge, formatTime } from "../ui/format";
import { announcement, notice } from "../ui/notifications";
import { href, type Route, route } from "../ui/router";
import { isHelpOpen } from "../ui/shortcuts";
import { theme, toggleTheme } from "../ui/theme";

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

export function Layout({ children, onRetry }: Props) {
  const isStale = connection.value.phase !== "open" && updatedAt.value !== null;
  const otherTheme = theme.value === "dark" ? "light" : "dark";
  return (
    <>
      <button type="button" class="skip-link button" onClick={() => document.getElementById("main")?.focus()}>
        Skip to content
      </button>
      <header class="top-bar">
        <p class="brand">
          <b>nvision-hub</b> <span>{hub.value?.site}</span>
        </p>
        <nav aria-label="Views">
          {VIEWS.map(([view, label]) => (
            <a key={view} href={href({ view })} aria-current={isCurrent(route.value, view) ? "page" : undefined}>
              <Icon name={view} />
              {label}
            </a>
          ))}
        </nav>
        <ConnectionStatus />
        <SignedIn />
        <button
          type="button"
          class="button button-icon"
          aria-label={`Use ${otherTheme} theme`}
          title={`Use ${otherTheme} theme (t)`}
          onClick={toggleTheme}
        >
          <Icon name={theme.value === "dark" ? "sun" : "moon"} />
        </button>
        <button
          type="button"
          class="button button-icon desktop-only"
          aria-label="Show keyboard shortcuts"
          title="Show keyboard shortcuts (?)"
          onClick={() => {
            isHelpOpen.value = true;
          }}
        >
          <Icon name="keyboard" />
        </button>
      </header>
      {isStale && <DisconnectedBanner onRetry={onRetry} />}
      <main id="main" tabIndex={-1} class={isStale ? "stale" : undefined}>
        {children}
      </main>
      <NoticeArea />
      <p class="visually-hidden" aria-live="polite">
        {announcement.value}
      </p>
    </>
  );
}

function isCurrent(current: Route, view: string): boolean {
  return current.view === view || (current.view === "camera" && view === "wall");
}

function ConnectionStatus() {
  const { phase } = connection.value;
  const isLive = phase === "open";
  const failing = cameras.value.filter(isFailing).length;
  const site = hub.value?.site ?? "nvision-hub";
  document.title = `${failing > 0 ? `(${failing}) ` : ""}${site}${isLive ? "" : " – disconnected"}`;
  return (
    <span class={`connection-status tone-${isLive ? "good" : "waiting"}`} role="status">
      <Icon name={isLive ? "play" : "ring"} />
      {isLive ? "Live" : phase === "lost" ? "Disconnected" : "Connecting"}
    </span>
  );
}

/** The signed-in client with its role; nothing if the hub needs no token. */
function SignedIn() {
  const current = session.value;
  if (current === null || current.kind === "local") {
    return null;
  }
  const { name, role, kind } = current;
  return (
    <>
      <span class="session" title={`Signed in as ${name} with the role ${role}`}>
        <Icon name="user" />
        <span class="session-name">{name}</span>
        <span class="session-role">{role}</span>
      </span>
      {kind === "token" && (
        <button
          type="button"
          class="button button-icon"
          aria-label="Sign out"
          title={`Sign out ${name}`}
          onClick={signOut}
        >
          <Icon name="exit" />
        </button>
      )}
    </>
  );
}

function DisconnectedBanner({ onRetry }: { readonly onRetry: () => void }) {
  const state = connection.value;
  const updated = updatedAt.value ?? 0;
  const secondsLeft = state.phase === "lost" ? Math.max(0, Math.ceil((state.retryAt - now.value) / 1000)) : 0;
  // Screen readers skip the parts that change every second. Otherwise, they would read the alert every second.
  return (
    <div class="disconnected" role="alert">
      <Icon name="warning" />
      <span>
        <b>Disconnected from the hub.</b> This data is from {formatTime(updated)}
        <span aria-hidden="true"> ({formatAge(updated, now.value)})</span>.{" "}
        <span aria-hidden="true">{secondsLeft > 0 ? `Retrying in ${secondsLeft} s.` : "Retrying…"}</span>
      </span>
      <button type="button" class="button" onClick={onRetry}>
        Retry now
      </button>
    </div>
  );
}

function NoticeArea() {
  const current = notice.value;
  return (
    <div class="notices" role="status">
      {current !== null && (
        <p class={`notice tone-${current.tone}`}>
          <Icon name={current.tone === "good" ? "check" : "warning"} />
          {current.text}
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
