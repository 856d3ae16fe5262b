/** What the thread of a rank runs. */
import { openRank } from "./rank-runner.ts";
import { serveRank } from "./serve-rank.ts";
import { SharedLink } from "./shared-link.ts";
import { rankPort } from "./threads.ts";

const { port, start, shared } = rankPort();
serveRank(port, () => openRank(start, new SharedLink(shared.memory, start.rank, { ...shared, ...start }), true));
