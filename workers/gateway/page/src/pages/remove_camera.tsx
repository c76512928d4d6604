import { useSignal } from "@preact/signals";
import { remove } from "../hub/api";
import { type Camera, title } from "../hub/model";
import { go } from "../look/routes";
import { OrderButton } from "../parts/button";
import { Dialog } from "../parts/dialog";

/** Takes a camera out of the hub, once that was confirmed. */
export function RemoveCamera({ camera }: { readonly camera: Camera }) {
  const asked = useSignal(false);
  const close = () => {
    asked.value = false;
  };
  const name = title(camera);
  return (
    <>
      <button
        type="button"
        class="button"
        onClick={() => {
          asked.value = true;
        }}
      >
        Remove
      </button>
      {asked.value && (
        <Dialog label={`Remove ${name}`} onClose={close}>
          <h2>Remove {name}?</h2>
          <p>
            It is let go of, and nothing of it is sent any more.{" "}
            {camera.run_time.added
              ? "What was set here for it is forgotten."
              : "It stays in cameras.yaml, and out of this hub until it is added again."}
          </p>
          <div class="actions">
            <OrderButton
              class="button button-main"
              order={async () => {
                await remove(camera.id);
                go({ view: "wall" });
              }}
              done={`${name} is removed.`}
            >
              Remove it
            </OrderButton>
            <button type="button" class="button" onClick={close}>
              Keep it
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
