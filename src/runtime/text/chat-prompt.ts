/** The text a tokenizer's chat template makes of a conversation, ready for the model's answer. */
import { InputError, showValue } from "../../ir/errors.ts";
import { type ChatMessage, renderChat, type TemplateValue } from "./chat-template.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface ChatPromptOptions {
  /** Ask for reasoning before the answer, where the model's template can. Default false. */
  readonly thinking?: boolean | undefined;
  /** Further variables for the chat template, such as `tools`. */
  readonly variables?: { readonly [name: string]: TemplateValue } | undefined;
}

/** @throws InputError when the model has no template, or the template refuses the messages; `name` is the model's. */
export function renderChatPrompt(
  tokenizer: Tokenizer,
  messages: readonly ChatMessage[],
  { thinking = false, variables }: ChatPromptOptions,
  name: string,
): string {
  if (tokenizer.chatTemplate === undefined) {
    throw new InputError(`${name} tokenizer_config.json chat_template`, "the model has no chat template", {
      hint: "Use generate(text), or a model made for chat.",
    });
  }
  checkMessages(messages);
  const textOf = (id: number | undefined) => (id === undefined ? "" : tokenizer.decode([id]));
  return renderChat(tokenizer.chatTemplate, messages, {
    addGenerationPrompt: true,
    thinking,
    bosToken: textOf(tokenizer.bosId),
    eosToken: textOf(tokenizer.eosIds[0]),
    ...(variables === undefined ? {} : { variables }),
  });
}

/** What every template relies on; which roles there are, and what contents may be, is the template's to say. */
function checkMessages(messages: unknown): void {
  const form = '[{ role: "user", content: "Hello" }]';
  if (!Array.isArray(messages) || messages.length === 0)
    throw new InputError("messages", `expected a conversation such as ${form}, got ${showValue(messages)}`);
  for (const [i, message] of messages.entries()) {
    const role: unknown = message?.role;
    if (typeof role !== "string" || role === "")
      throw new InputError(`messages[${i}]`, `expected a role and content, as in ${form}, got ${showValue(message)}`);
  }
}
