// Joins the parts: the socket tells the fleet, the screens and the journal; the views show them; what is seen is watched.

import { computed, effect } from "@preact/signals";
import { address } from "./hub/api";
import { cameraIds, connection, take } from "./hub/fleet";
import { Live } from "./hub/live";
import type { Message } from "./hub/model";
import { preview } from "./hub/preview";
import { token, tokenWanted, useToken, wantToken } from "./hub/token";
import { announceChanges } from "./look/announce";
import { helpShown } from "./look/keyboard";
import { route } from "./look/routes";
import { CameraPage } from "./pages/camera";
import { Events } from "./pages/events";
import { Frame } from "./pages/frame";
import { Help } from "./pages/help";
import { HubPage } from "./pages/hub";
import { noteNews, noteResult } from "./pages/journal";
import { TokenPrompt } from "./pages/token_prompt";
import { Wall } from "./pages/wall";
import { Webhooks } from "./pages/webhooks";
import { watched } from "./watching/in_view";
import { showPreview, showResult } from "./watching/screens";

const url = address("live");
url.protocol = url.protocol.replace("http", "ws");

const live = new Live(url, {
  connection(now) {
    connection.value = now;
    if (now.phase === "refused") {
      wantToken();
    }
  },
  message: heard,
  preview(message) {
    const shown = preview(message);
    if (shown !== null) {
      showPreview(shown);
    }
  },
  token: () => token.value,
});

function heard(message: Message): void {
  const now = Date.now();
  if (message.kind === "result") {
    showResult(message.event);
    noteResult(message.event, now);
  } else if (message.kind === "news") {
    noteNews(message.event, now);
  } else {
    announceChanges(take(message, now));
  }
}

/** Results come with the cameras that are watched; whoever reads events wants all of those, and hardly any picture. */
const wish = computed(() =>
  route.value.view === "events" ? { cameras: cameraIds.value, width: 64, fps: 0.1 } : watched.value,
);

/** Connect, and keep telling what is being looked at. */
export function start(): void {
  let timer: number | undefined;
  effect(() => {
    const asked = wish.value;
    window.clearTimeout(timer);
    timer = window.setTimeout(() => live.watch(asked), 100); // one word for a whole scroll
  });
  live.connect();
}

export function App() {
  return (
    <>
      <Frame onRetry={() => live.connect()}>
        <View />
      </Frame>
      {helpShown.value && <Help />}
      {tokenWanted.value !== null && (
        <TokenPrompt
          onGiven={(given) => {
            useToken(given);
            live.connect();
          }}
        />
      )}
    </>
  );
}

function View() {
  const at = route.value;
  switch (at.view) {
    case "camera":
      return <CameraPage key={at.id} id={at.id} />;
    case "events":
      return <Events />;
    case "webhooks":
      return <Webhooks />;
    case "hub":
      return <HubPage />;
    default:
      return <Wall />;
  }
}
