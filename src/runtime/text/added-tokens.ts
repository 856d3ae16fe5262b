/** Added tokens: strings such as `<｜User｜>` that become one token wherever they occur in a text; of several, the longest. */

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Control tokens, left out of decoded text on request. */
  readonly special: boolean;
  /** Looked for in normalised text, after all those that are not. */
  readonly normalized: boolean;
}

interface TrieNode {
  id: number | undefined;
  readonly next: Map<number, TrieNode>;
}

export type AddedTokenTrie = TrieNode;

/** A trie over the UTF-16 units of the tokens' texts. */
export function addedTokenTrie(tokens: Iterable<AddedToken>): AddedTokenTrie {
  const root: TrieNode = { id: undefined, next: new Map() };
  for (const { id, content } of tokens) {
    let node = root;
    for (let i = 0; i < content.length; i++) {
      const unit = content.charCodeAt(i);
      let child = node.next.get(unit);
      if (child === undefined) {
        child = { id: undefined, next: new Map() };
        node.next.set(unit, child);
      }
      node = child;
    }
    node.id = id;
  }
  return root;
}

/** Calls back for each stretch of text without added tokens, and each added token, in order. */
export function splitAdded(
  trie: AddedTokenTrie,
  text: string,
  onText: (text: string) => void,
  onToken: (id: number) => void,
): void {
  let done = 0;
  for (let at = 0; at < text.length; ) {
    const match = longestAt(trie, text, at);
    if (match === undefined) {
      at++;
      continue;
    }
    if (at > done) onText(text.slice(done, at));
    onToken(match.id);
    at = done = match.end;
  }
  if (done < text.length) onText(done === 0 ? text : text.slice(done));
}

function longestAt(trie: AddedTokenTrie, text: string, start: number): { id: number; end: number } | undefined {
  let node = trie.next.get(text.charCodeAt(start));
  let best: { id: number; end: number } | undefined;
  for (let at = start + 1; node !== undefined; at++) {
    if (node.id !== undefined) best = { id: node.id, end: at };
    node = node.next.get(text.charCodeAt(at));
  }
  return best;
}
