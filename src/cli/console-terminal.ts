import type { Console } from "../devices/console.js";

/** Ctrl-], which telnet has for this, too. */
const QUIT = 0x1d;

/**
 * Joins a console's first port to this program's terminal, or whatever its standard input and
 * output are. `quit`: Ctrl-] was pressed. Returns what gives the terminal back.
 */
export function joinTerminal(device: Console, quit: () => void): () => void {
  const { stdin, stdout } = process;
  const stream = device.open(0);
  const resize = () => {
    if (stdout.isTTY && stdout.columns > 0) device.resize(stdout.columns, stdout.rows);
  };
  const type = (bytes: Buffer) => {
    const at = stdin.isTTY ? bytes.indexOf(QUIT) : -1;
    if (at >= 0) quit();
    else if (!stream.write(bytes)) {
      stdin.pause();
      stream.once("drain", () => stdin.resume());
    }
  };
  resize();
  stdout.on("resize", resize);
  if (stdin.isTTY) stdin.setRawMode(true);
  stdin.on("data", type);
  stream.pipe(stdout, { end: false });
  return () => {
    if (stdin.isTTY) stdin.setRawMode(false);
    stdin.off("data", type).pause();
    stdout.off("resize", resize);
    stream.destroy();
  };
}
