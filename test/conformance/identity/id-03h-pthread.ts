import type { Scene, Seen } from "../machine/index.js";
import { prepare, taskFields } from "../task-fields.js";

export function run(scene: Scene): Seen {
  const main = prepare(scene);
  const thread = main.pthreadCreate();
  const { tgid_is_owner, flags_decoded, exit_signal, SigBlk, fd_entries, same_exe } = taskFields(
    main,
    thread.tid,
  );
  return { tgid_is_owner, flags_decoded, exit_signal, SigBlk, fd_entries, same_exe };
}
