// A camera more, while the hub runs. Whatever else it may have is written into cameras.yaml.

import { useSignal } from "@preact/signals";
import { add, Refusal } from "../hub/api";
import { tell } from "../look/announce";
import { go } from "../look/routes";
import { Dialog } from "../parts/dialog";

const FIELDS = {
  id: { label: "Id", hint: "Small letters, digits, - and _", input: "text" },
  url: { label: "Address", hint: "rtsp://user:password@10.0.0.5/stream1", input: "url" },
  fps: { label: "Pictures a second", hint: "0.2 is one every five seconds", input: "decimal" },
} as const;
type Name = keyof typeof FIELDS;
const NAMES = Object.keys(FIELDS) as Name[];

export function AddCamera() {
  const open = useSignal(false);
  const close = () => {
    open.value = false;
  };
  return (
    <>
      <button
        type="button"
        class="button"
        onClick={() => {
          open.value = true;
        }}
      >
        Add a camera
      </button>
      {open.value && <Form onClose={close} />}
    </>
  );
}

function Form({ onClose }: { readonly onClose: () => void }) {
  const typed = useSignal<Record<Name, string>>({ id: "", url: "", fps: "5" });
  const faults = useSignal<ReadonlyMap<string, string>>(new Map());
  const busy = useSignal(false);

  const send = async (event: Event) => {
    event.preventDefault();
    const { id, url, fps } = typed.value;
    busy.value = true;
    try {
      await add({ id, url, fps: Number(fps) });
      tell(`${id} is added.`);
      onClose();
      go({ view: "camera", id });
    } catch (error) {
      const named = error instanceof Refusal ? error.faults : new Map<string, string>();
      const other = NAMES.some((name) => named.has(name)) ? [] : [["", (error as Error).message] as const];
      faults.value = new Map([...named, ...other]);
    }
    busy.value = false;
  };

  return (
    <Dialog label="Add a camera" onClose={onClose}>
      <form class="token" onSubmit={send} noValidate>
        <h2>Add a camera</h2>
        {NAMES.map((name) => (
          <Field
            key={name}
            name={name}
            value={typed.value[name]}
            fault={faults.value.get(name)}
            onTyped={(value) => {
              typed.value = { ...typed.value, [name]: value };
            }}
          />
        ))}
        {faults.value.has("") && (
          <p class="fault" role="alert">
            {faults.value.get("")}
          </p>
        )}
        <div class="actions">
          <button type="submit" class="button button-main" disabled={busy.value} aria-busy={busy.value}>
            Add
          </button>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
        </div>
        <p class="hint">It stays until it is removed here, also when the hub is started again.</p>
      </form>
    </Dialog>
  );
}

interface FieldProps {
  readonly name: Name;
  readonly value: string;
  readonly fault: string | undefined;
  readonly onTyped: (value: string) => void;
}

function Field({ name, value, fault, onTyped }: FieldProps) {
  const { label, hint, input } = FIELDS[name];
  const about = `add-${name}-about`;
  return (
    <label class="field">
      <span>{label}</span>
      <input
        type="text"
        inputMode={input}
        spellcheck={false}
        autocomplete="off"
        aria-describedby={fault === undefined ? about : `${about} ${about}-fault`}
        aria-invalid={fault !== undefined}
        value={value}
        onInput={(event) => onTyped(event.currentTarget.value)}
      />
      <span id={about} class="hint">
        {hint}
      </span>
      {fault !== undefined && (
        <span id={`${about}-fault`} class="fault" role="alert">
          {fault}
        </span>
      )}
    </label>
  );
}
