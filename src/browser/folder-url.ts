/** The address of a model's folder, of the files in it, and the name under which it is stored. */
import { InputError, showValue } from "../ir/errors.ts";
import { isPlainFileName } from "../runtime/weights/byte-source.ts";
import { hex } from "./file-record.ts";

/** The address of a folder, ending in a slash. @throws InputError for what is no address */
export function folderUrl(url: string, base?: string): string {
  const parsed = URL.canParse(url, base) ? new URL(url, base) : null;
  if (parsed === null || !/^https?:$/.test(parsed.protocol)) {
    throw new InputError("loadModel", `expected the address of a folder over HTTP, got ${showValue(url)}`);
  }
  if (!parsed.pathname.endsWith("/")) parsed.pathname += "/";
  parsed.hash = "";
  return parsed.href;
}

/** The name of the folder in which a model is stored: a hash of its address without the query, which may be a secret. */
export async function storageName(folder: string): Promise<string> {
  const { origin, pathname } = new URL(folder);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(origin + pathname)));
  return hex(hash.subarray(0, 16));
}

/** The address of a file in a folder: its query, which may hold an access token, stays. */
export function fileUrl(folder: string, file: string): string {
  if (!isPlainFileName(file)) throw new InputError(file, "not the name of a file in the model's folder");
  const url = new URL(folder);
  url.pathname += encodeURIComponent(file);
  return url.href;
}
