/** Which files make a model: found by asking the server for the names that Hugging Face folders have. */
import { InputError } from "../ir/errors.ts";
import { indexFile, maxIndexBytes, parseIndex, singleFile } from "../runtime/weights/checkpoint.ts";
import { fileUrl } from "./folder-url.ts";
import { findRemoteFile, type RemoteFile, readRemoteRange } from "./http-file.ts";

const configFile = "config.json";
/** Files that a model may have besides its config and weights. */
const optionalFiles = [
  "tokenizer.json",
  "tokenizer_config.json",
  "generation_config.json",
  "chat_template.jinja",
  "input_scales.json",
];

/** Files by name, small ones first. */
export type RemoteFiles = ReadonlyMap<string, RemoteFile>;

export interface FileSearch {
  /** The names, where they are known: then nothing is asked for in vain. */
  readonly files?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Finds a model's files with their sizes. @throws NetworkError, InputError when there is no model at this address */
export async function findModelFiles(folder: string, { files, signal }: FileSearch = {}): Promise<RemoteFiles> {
  const find = async (name: string) => [name, await findRemoteFile(fileUrl(folder, name), signal)] as const;
  const found = new Map<string, RemoteFile>();
  const add = async (names: readonly string[], needed: string | null) => {
    for (const [name, file] of await Promise.all(names.map(find))) {
      if (file !== null) found.set(name, file);
      else if (needed !== null) throw new InputError(fileUrl(folder, name), `no such file, ${needed}`);
    }
  };
  if (files !== undefined) {
    await add(files, "but it is in the list of the model's files");
    return found;
  }
  await add([configFile], "so there is no model in this folder");
  await add([...optionalFiles, indexFile], null);
  const index = found.get(indexFile);
  if (index === undefined) await add([singleFile], `and no ${indexFile}: the model has no weights`);
  else await add([...(await shardsOf(index, signal))], `but ${indexFile} names it`);
  return found;
}

async function shardsOf(index: RemoteFile, signal?: AbortSignal): Promise<Iterable<string>> {
  if (index.size > maxIndexBytes) {
    throw new InputError(indexFile, `file of ${index.size} bytes: expected at most ${maxIndexBytes}`);
  }
  const bytes = await readRemoteRange(index, 0, index.size, signal);
  return parseIndex(new TextDecoder().decode(bytes), indexFile).keys();
}
