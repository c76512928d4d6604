// Button and form that add a camera at run time, with its id, URL and frame rate.

import { useSignal } from "@preact/signals";
import { ApiError, addCamera } from "../../api/client";
import { Dialog } from "../../components/dialog";
import { notify } from "../../ui/notifications";
import { navigate } from "../../ui/router";

const FIELDS = {
  id: { label: "ID", hint: "Lowercase letters, digits, - and _", inputMode: "text" },
  url: { label: "URL", hint: "rtsp://user:password@10.0.0.5/stream1", inputMode: "url" },
  fps: { label: "Frames per second", hint: "0.2 means one frame every five seconds", inputMode: "decimal" },
} as const;
type FieldName = keyof typeof FIELDS;
const FIELD_NAMES = Object.keys(FIELDS) as FieldName[];

export function AddCamera() {
  const isOpen = useSignal(false);
  return (
    <>
      <button
        type="button"
        class="button"
        onClick={() => {
          isOpen.value = true;
        }}
      >
        Add camera
      </button>
      {isOpen.value && (
        <AddCameraDialog
          onClose={() => {
            isOpen.value = false;
          }}
        />
      )}
    </>
  );
}

function AddCameraDialog({ onClose }: { readonly onClose: () => void }) {
  const values = useSignal<Record<FieldName, string>>({ id: "", url: "", fps: "5" });
  const error = useSignal<ApiError | null>(null);
  const isBusy = useSignal(false);
  const fields = error.value?.fields;
  const hasFieldError = FIELD_NAMES.some((name) => fields?.has(name));

  const submit = async (event: Event) => {
    event.preventDefault();
    const { id, url, fps } = values.value;
    isBusy.value = true;
    error.value = null;
    try {
      await addCamera({ id, url, fps: Number(fps) });
      notify(`Added ${id}.`);
      onClose();
      navigate({ view: "camera", id });
    } catch (failure) {
      error.value = failure instanceof ApiError ? failure : new ApiError(String(failure), 0);
    }
    isBusy.value = false;
  };

  return (
    <Dialog label="Add camera" onClose={onClose}>
      <form class="form" onSubmit={submit} noValidate>
        <h2>Add camera</h2>
        {FIELD_NAMES.map((name) => (
          <Field
            key={name}
            name={name}
            value={values.value[name]}
            error={fields?.get(name)}
            onInput={(value) => {
              values.value = { ...values.value, [name]: value };
            }}
          />
        ))}
        {error.value !== null && !hasFieldError && (
          <p class="error-text" role="alert">
            {error.value.message}
          </p>
        )}
        <div class="actions">
          <button type="submit" class="button button-primary" disabled={isBusy.value} aria-busy={isBusy.value}>
            Add camera
          </button>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
        </div>
        <p class="hint">The hub keeps this camera across restarts until you remove it on the camera's page.</p>
      </form>
    </Dialog>
  );
}

interface FieldProps {
  readonly name: FieldName;
  readonly value: string;
  readonly error: string | undefined;
  readonly onInput: (value: string) => void;
}

function Field({ name, value, error, onInput }: FieldProps) {
  const { label, hint, inputMode } = FIELDS[name];
  const hintId = `add-${name}-hint`;
  const errorId = `add-${name}-error`;
  return (
    <label class="field">
      <span>{label}</span>
      <input
        type="text"
        inputMode={inputMode}
        spellcheck={false}
        autocomplete="off"
        aria-describedby={error === undefined ? hintId : `${hintId} ${errorId}`}
        aria-invalid={error !== undefined}
        value={value}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      <span id={hintId} class="hint">
        {hint}
      </span>
      {error !== undefined && (
        <span id={errorId} class="error-text" role="alert">
          {error}
        </span>
      )}
    </label>
  );
}
