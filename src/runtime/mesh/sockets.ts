/**
 * Links between ranks that are processes of one host: each pair has a socket (Unix domain, on Windows a named pipe), on
 * which messages go as frames. Whoever has the higher number connects, and proves with the mesh's key that it belongs to
 * it. The modules of Node are reached through the process, so that a browser bundle imports none.
 */
import type { Server, Socket } from "node:net";
import { CompilerError, InternalError } from "../../ir/errors.ts";
import { FrameReader, frameOf } from "./frames.ts";
import { QueueLink } from "./queue-link.ts";

/** Plain data, so that it can be handed to processes. */
export interface SocketMesh {
  /** A folder that only this user can enter. */
  readonly folder: string;
  readonly key: string;
}

export interface SocketLinkOptions {
  readonly rank: number;
  readonly ranks: number;
  readonly deadlineMs: number;
  /** How long others may take to start, in milliseconds. */
  readonly startMs: number;
}

/** How long who drives may take to tell of a rank's end. */
const lostMs = 200;
/** How long to wait before knocking again at one that does not listen yet. */
const retryMs = 20;

export class SocketLink {
  readonly link: QueueLink;
  readonly #mesh: SocketMesh;
  readonly #options: SocketLinkOptions;
  readonly #sockets = new Map<number, Socket>();
  #server: Server | null = null;
  #heard: () => void = () => {};

  private constructor(mesh: SocketMesh, options: SocketLinkOptions) {
    this.#mesh = mesh;
    this.#options = options;
    const { rank, deadlineMs } = options;
    this.link = new QueueLink({ rank, deadlineMs, send: (...message) => this.#send(...message) });
  }

  /** Connected to all others. @throws CompilerError where that takes longer than `startMs` */
  static async open(mesh: SocketMesh, options: SocketLinkOptions): Promise<SocketLink> {
    const made = new SocketLink(mesh, options);
    try {
      await made.#connectAll();
    } catch (error) {
      made.close();
      throw error;
    }
    return made;
  }

  close(): void {
    this.link.stop("the mesh is closed");
    this.#server?.close();
    for (const socket of this.#sockets.values()) socket.destroy();
  }

  async #connectAll(): Promise<void> {
    const { rank, ranks, startMs } = this.#options;
    const end = performance.now() + startMs;
    const server = net().createServer((socket) => void this.#greet(socket));
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(pathOf(this.#mesh, rank), resolve);
    });
    await Promise.all(Array.from({ length: rank }, (_, peer) => this.#connect(peer, end)));
    while (this.#sockets.size < ranks - 1) {
      const left = end - performance.now();
      if (left <= 0) throw new CompilerError("internal", `rank ${rank}`, `expected all ranks within ${startMs} ms`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#heard = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    server.close();
  }

  async #connect(peer: number, end: number): Promise<void> {
    const { rank } = this.#options;
    for (;;) {
      const socket = net().connect(pathOf(this.#mesh, peer));
      const connected = await new Promise<boolean>((resolve) => {
        socket.once("connect", () => resolve(true));
        socket.once("error", () => resolve(false));
      });
      if (connected) {
        socket.write(frameOf(rank, 0, new TextEncoder().encode(this.#mesh.key)));
        this.#add(peer, socket, new FrameReader());
        return;
      }
      if (performance.now() > end) {
        throw new CompilerError("internal", `rank ${rank}`, `rank ${peer} cannot be reached`);
      }
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }

  /** The first frame says who it is. */
  #greet(socket: Socket): void {
    const reader = new FrameReader();
    const drop = () => void socket.destroy();
    socket.on("error", drop);
    socket.once("data", (bytes: Buffer) => {
      try {
        const [hello, ...more] = reader.read(bytes);
        const key = hello && new TextDecoder().decode(hello.bytes);
        const known = hello && hello.step > this.#options.rank && hello.step < this.#options.ranks;
        if (!known || key !== this.#mesh.key || this.#sockets.has(hello.step)) return drop();
        this.#add(hello.step, socket, reader);
        for (const { step, tag, bytes } of more) void this.link.inbox.put({ from: hello.step, step, tag }, bytes);
        this.#heard();
      } catch {
        drop();
      }
    });
  }

  #add(peer: number, socket: Socket, reader: FrameReader): void {
    this.#sockets.set(peer, socket);
    const lose = (why: string) => {
      socket.destroy();
      this.#tellLate(peer, why, (error) => this.link.inbox.end(error));
    };
    socket.setNoDelay(true);
    socket.on("error", (error) => lose(`is lost: ${error.message}`));
    socket.on("close", () => lose("has ended"));
    socket.on("data", (bytes: Buffer) => {
      try {
        const frames = reader.read(bytes);
        const puts = frames.map(({ step, tag, bytes }) => this.link.inbox.put({ from: peer, step, tag }, bytes));
        if (!this.link.inbox.isFull(peer)) return;
        socket.pause();
        void Promise.all(puts).then(() => socket.resume());
      } catch (error) {
        lose(`sent nonsense: ${error instanceof InternalError ? error.message : String(error)}`);
      }
    });
  }

  /** A copy goes to the system, or waits until that takes it. */
  #send(to: number, step: number, tag: number, bytes: Uint8Array): Promise<void> {
    const socket = this.#sockets.get(to);
    if (socket === undefined) return Promise.reject(new InternalError(`rank ${this.#options.rank}`, `no rank ${to}`));
    return new Promise((resolve, reject) => {
      socket.write(frameOf(step, tag, bytes), (error) => {
        if (error) this.#tellLate(to, `is lost: ${error.message}`, reject);
        else resolve();
      });
    });
  }

  /** Whoever drives knows better why, and should be the first to tell. */
  #tellLate(peer: number, why: string, tell: (error: CompilerError) => void): void {
    const error = new CompilerError("internal", `rank ${this.#options.rank}`, `rank ${peer} ${why}`);
    setTimeout(() => tell(error), lostMs);
  }
}

/** A place for the sockets of a mesh; remove the folder when all are connected. */
export async function makeSocketMesh(): Promise<SocketMesh> {
  const { mkdtemp } = process.getBuiltinModule("node:fs/promises");
  const { tmpdir } = process.getBuiltinModule("node:os");
  const folder = await mkdtemp(process.getBuiltinModule("node:path").join(tmpdir(), "ciuic-mesh-"));
  return { folder, key: crypto.randomUUID() };
}

export async function removeSocketMesh({ folder }: SocketMesh): Promise<void> {
  await process.getBuiltinModule("node:fs/promises").rm(folder, { recursive: true, force: true });
}

function pathOf({ folder, key }: SocketMesh, rank: number): string {
  return process.platform === "win32" ? `\\\\.\\pipe\\ciuic-${key}-${rank}` : `${folder}/${rank}`;
}

function net() {
  return process.getBuiltinModule("node:net");
}
