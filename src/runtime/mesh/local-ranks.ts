/** Ranks that live on this thread: what waits for a GPU or an engine elsewhere needs no thread of its own. */
import { localLinks } from "./local-link.ts";
import type { RankEvents, RankHandle, RankSite } from "./mesh-ranks.ts";
import type { FromRank, RankStart, ToRank } from "./messages.ts";
import { openRank, type RankRunner } from "./rank-runner.ts";
import { serveRank } from "./serve-rank.ts";

export function localSite(ranks: number, deadlineMs: number): RankSite {
  const links = localLinks(ranks, deadlineMs);
  const start = (given: RankStart, events: RankEvents): RankHandle => {
    const link = links[given.rank]!; // one for each
    return startLocalRank(() => openRank(given, link), events);
  };
  const stop = (rank: number | null) => {
    for (const link of links) link.stop(rank === null ? "the mesh is closed" : `rank ${rank} has failed`);
  };
  return { start, stop };
}

function startLocalRank(open: () => Promise<RankRunner>, { message, gone }: RankEvents): RankHandle {
  let hear: (message: ToRank) => void = () => {};
  let ended = false;
  let finish: () => void = () => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  let opened: Promise<RankRunner> | null = null;
  const end = () => {
    if (ended) return;
    ended = true;
    gone("it was ended");
    finish();
  };
  const port = {
    listen: (listener: (message: ToRank) => void) => {
      hear = listener;
    },
    post: (each: FromRank) => {
      if (!ended) message(each);
    },
    close: end,
  };
  serveRank(port, () => {
    opened = open();
    return opened;
  });
  return {
    // Later, as from elsewhere.
    post: (each) => queueMicrotask(() => hear(each)),
    hold: () => {},
    end: async () => {
      const wasOpen = !ended;
      end();
      // Its device goes in the middle of whatever it computes, as a lost one would.
      if (wasOpen) await opened?.then((runner) => runner.close()).catch(() => {});
    },
    gone: finished,
  };
}
