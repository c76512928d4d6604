import { useSignal } from "@preact/signals";
import { tokenWanted } from "../hub/token";
import { Dialog } from "../parts/dialog";

/** Asks for the gateway's token, and again where that is not the one. */
export function TokenPrompt({ onGiven }: { readonly onGiven: (token: string) => void }) {
  const typed = useSignal("");
  const give = (event: Event) => {
    event.preventDefault();
    onGiven(typed.value.trim());
  };
  return (
    <Dialog label="Token" onClose={() => undefined}>
      <form class="token" onSubmit={give}>
        <h2>Token</h2>
        <p id="token-why">{tokenWanted.value}</p>
        <input
          type="password"
          aria-label="Token"
          aria-describedby="token-why"
          autocomplete="current-password"
          required
          value={typed.value}
          onInput={(event) => {
            typed.value = event.currentTarget.value;
          }}
        />
        <button type="submit" class="button button-main">
          Open
        </button>
        <p class="hint">It is kept in this tab until that is closed.</p>
      </form>
    </Dialog>
  );
}
