// Root component, which passes socket messages to the stores and requests previews of the visible cameras.

import { computed, effect } from "@preact/signals";
import { apiUrl } from "./api/client";
import { LiveSocket } from "./api/live_socket";
import { parsePreview } from "./api/preview_message";
import { promptForToken, saveToken, token, tokenPrompt } from "./api/token";
import type { Message } from "./api/types";
import { CameraPage } from "./pages/camera/camera";
import { EventsPage } from "./pages/events";
import { HubPage } from "./pages/hub";
import { Layout } from "./pages/layout";
import { ShortcutsHelp } from "./pages/shortcuts_help";
import { TokenPrompt } from "./pages/token_prompt";
import { WallPage } from "./pages/wall/wall";
import { WebhooksPage } from "./pages/webhooks/webhooks";
import { pushPreview, pushResult } from "./previews/preview_streams";
import { visiblePreviews } from "./previews/visible_cameras";
import { logHubEvent, logResult } from "./state/event_log";
import { applyMessage, cameraIds, connection } from "./state/fleet";
import { announceChanges } from "./ui/notifications";
import { route } from "./ui/router";
import { isHelpOpen } from "./ui/shortcuts";

const SCROLL_SETTLE_MS = 100; // delay between the last change of the visible cameras and the request

const url = apiUrl("live");
url.protocol = url.protocol.replace("http", "ws");

const socket = new LiveSocket(url, {
  onConnection(state) {
    connection.value = state;
    if (state.phase === "unauthorized") {
      promptForToken(state.isRoleTooLow);
    }
  },
  onMessage,
  onPreview(data) {
    const preview = parsePreview(data);
    if (preview !== null) {
      pushPreview(preview);
    }
  },
  getToken: () => token.value,
});

function onMessage(message: Message): void {
  const now = Date.now();
  if (message.kind === "result") {
    pushResult(message.event);
    logResult(message.event, now);
  } else if (message.kind === "news") {
    logHubEvent(message.event, now);
  } else {
    announceChanges(applyMessage(message, now));
  }
}

/**
 * Previews to request. The gateway sends results only with previews, so the events page requests small, infrequent
 * previews of all cameras.
 */
const previewRequest = computed(() =>
  route.value.view === "events" ? { cameras: cameraIds.value, width: 64, fps: 0.1 } : visiblePreviews.value,
);

/** Connect, and request previews whenever `previewRequest` changes. */
export function start(): void {
  let timer: number | undefined;
  effect(() => {
    const request = previewRequest.value;
    window.clearTimeout(timer);
    timer = window.setTimeout(() => socket.requestPreviews(request), SCROLL_SETTLE_MS);
  });
  socket.connect();
}

export function App() {
  return (
    <>
      <Layout onRetry={() => socket.connect()}>
        <CurrentPage />
      </Layout>
      {isHelpOpen.value && <ShortcutsHelp />}
      {tokenPrompt.value !== null && (
        <TokenPrompt
          onSubmit={(value) => {
            saveToken(value);
            socket.connect();
          }}
        />
      )}
    </>
  );
}

function CurrentPage() {
  const current = route.value;
  switch (current.view) {
    case "camera":
      return <CameraPage key={current.id} id={current.id} />;
    case "events":
      return <EventsPage />;
    case "webhooks":
      return <WebhooksPage />;
    case "hub":
      return <HubPage />;
    default:
      return <WallPage />;
  }
}
