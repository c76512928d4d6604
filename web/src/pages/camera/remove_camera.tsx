import { useSignal } from "@preact/signals";
import { removeCamera } from "../../api/client";
import { type Camera, displayName } from "../../api/types";
import { ActionButton } from "../../components/action_button";
import { Dialog } from "../../components/dialog";
import { navigate } from "../../ui/router";

/** Button that removes a camera after confirmation. */
export function RemoveCamera({ camera }: { readonly camera: Camera }) {
  const isOpen = useSignal(false);
  const close = () => {
    isOpen.value = false;
  };
  const name = displayName(camera);
  return (
    <>
      <button
        type="button"
        class="button"
        onClick={() => {
          isOpen.value = true;
        }}
      >
        Remove
      </button>
      {isOpen.value && (
        <Dialog label={`Remove ${name}`} onClose={close}>
          <h2>Remove {name}?</h2>
          <p>
            The hub disconnects from the camera and sends no more frames.{" "}
            {camera.run_time.added
              ? "Its settings are deleted."
              : "Its entry in cameras.yaml stays, but the hub ignores it until you add the camera again."}
          </p>
          <div class="actions">
            <ActionButton
              class="button button-primary"
              action={async () => {
                await removeCamera(camera.id);
                navigate({ view: "wall" });
              }}
              success={`Removed ${name}.`}
            >
              Remove camera
            </ActionButton>
            <button type="button" class="button" onClick={close}>
              Cancel
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
