import { useSignal } from "@preact/signals";
import { tokenPrompt } from "../api/token";
import { Dialog } from "../components/dialog";

/** Dialog for the gateway's token. */
export function TokenPrompt({ onSubmit }: { readonly onSubmit: (token: string) => void }) {
  const value = useSignal("");
  const submit = (event: Event) => {
    event.preventDefault();
    onSubmit(value.value.trim());
  };
  return (
    <Dialog label="Token" onClose={() => undefined}>
      <form class="form" onSubmit={submit}>
        <h2>Token</h2>
        <p id="token-reason">{tokenPrompt.value}</p>
        <input
          type="password"
          aria-label="Token"
          aria-describedby="token-reason"
          autocomplete="current-password"
          required
          value={value.value}
          onInput={(event) => {
            value.value = event.currentTarget.value;
          }}
        />
        <button type="submit" class="button button-primary">
          Connect
        </button>
        <p class="hint">The token is stored until you close this tab.</p>
      </form>
    </Dialog>
  );
}
