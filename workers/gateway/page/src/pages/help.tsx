import { helpShown, KEYS } from "../look/keyboard";
import { Dialog } from "../parts/dialog";

export function Help() {
  const close = () => {
    helpShown.value = false;
  };
  return (
    <Dialog label="Keys" onClose={close}>
      <h2>Keys</h2>
      <dl class="keys">
        {KEYS.map(([key, what]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <button type="button" class="button button-main" onClick={close}>
        Close
      </button>
    </Dialog>
  );
}
