/** `ciuic tokenize`: the ids of a text, or the prompt of a conversation, as the model gets them. */
import { InputError } from "../ir/errors.ts";
import { renderChatPrompt } from "../runtime/text/chat-prompt.ts";
import type { ChatMessage, TemplateValue } from "../runtime/text/chat-template.ts";
import { loadTokenizer } from "../runtime/text/tokenizer.ts";
import { asArray, asObject, asText, isArray, isObject, type JsonValue, parseJson } from "../runtime/weights/json.ts";
import { openNodeFolder } from "../runtime/weights/node-folder.ts";
import { write } from "./answer.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { modelPath } from "./model-source.ts";
import type { OptionTable } from "./options.ts";
import { readText } from "./read-input.ts";

const options = {
  file: { kind: "text", value: "FILE", doc: "The text, in UTF-8; - reads stdin." },
  chat: { kind: "text", value: "MESSAGES.json", doc: "A conversation: [{role, content}, ...]; - reads stdin." },
  think: { kind: "flag", doc: "With --chat: ask for reasoning before the answer." },
} as const satisfies OptionTable;

export const tokenize = defineCommand({
  name: "tokenize",
  usage: ["[MODEL] --file FILE", "[MODEL] --chat MESSAGES.json [--think]"],
  summary: "Show the token ids of a text, or the prompt of a conversation.",
  details: [
    "--file prints the ids as one JSON array; no special tokens are added, but those written in the text are recognised.",
    "--chat prints the text that the model's chat template makes of the messages, up to where the answer begins. No weights are needed.",
  ],
  options,
  examples: [
    'echo "Once upon a time" | ciuic tokenize --file -',
    `echo '[{"role": "user", "content": "What is 27 + 15?"}]' | ciuic tokenize --chat - --think`,
  ],
  positionals: 1,
  run: async ({ values, positionals }) => {
    const { file, chat, think: thinking = false } = values;
    if ((file === undefined) === (chat === undefined)) {
      throw new InputError("tokenize", "expected either --file FILE or --chat MESSAGES.json");
    }
    const path = modelPath(positionals[0]);
    const tokenizer = await loadTokenizer(await openNodeFolder(path));
    if (chat !== undefined) {
      const messages = parseMessages(await readText(chat), chat === "-" ? "stdin" : chat);
      await write(process.stdout, renderChatPrompt(tokenizer, messages, { thinking }, path));
    } else if (file !== undefined) {
      await write(process.stdout, `${JSON.stringify(tokenizer.encode(await readText(file)))}\n`);
    }
    return exitCodes.done;
  },
});

/** @throws InputError naming the message without a role. */
export function parseMessages(text: string, where: string): ChatMessage[] {
  return asArray(parseJson(text, where), where).map((item, i) => {
    const message = asObject(item, `${where}[${i}]`);
    const role = asText(message.get("role"), `${where}[${i}].role`);
    return { ...templateObject(message), role };
  });
}

/** Maps of the JSON reader as the objects that templates see; the template engine gives no access to prototypes. */
function templateValue(value: JsonValue): TemplateValue {
  if (isObject(value)) return templateObject(value);
  return isArray(value) ? value.map(templateValue) : value;
}

function templateObject(value: ReadonlyMap<string, JsonValue>): { readonly [key: string]: TemplateValue } {
  // fromEntries defines properties, so that a key such as __proto__ is a key like any other.
  return Object.fromEntries([...value].map(([key, each]) => [key, templateValue(each)]));
}
