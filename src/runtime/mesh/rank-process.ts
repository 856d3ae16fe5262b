/** What the process of a rank runs. */
import { rankCount } from "../../ir/mesh.ts";
import { processPort } from "./processes.ts";
import { openRank } from "./rank-runner.ts";
import { serveRank } from "./serve-rank.ts";
import { SocketLink } from "./sockets.ts";

/** For all processes to have started, in milliseconds. */
const startMs = 60_000;

const { port, start, sockets } = await processPort();
const { rank, mesh, deadlineMs } = start;
const linked = SocketLink.open(sockets, { rank, ranks: rankCount(mesh), deadlineMs, startMs });
serveRank(port, () =>
  openRank(
    start,
    linked.then(({ link }) => link),
  ),
);
