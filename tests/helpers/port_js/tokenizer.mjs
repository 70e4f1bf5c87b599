// WordPiece as BERT's uncased tokenizer has it.
import { readFileSync } from "node:fs";

const SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const CHINESE = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2fa1f}]/u;
const PUNCTUATION = /[\p{P}$+<=>^`|~]/u;

export function readVocabulary(path) {
  const words = readFileSync(path, "utf8").replace(/\n$/, "").split("\n");
  return { words, ids: new Map(words.map((word, i) => [word, i])) };
}

function clean(text) {
  let out = "";
  for (const c of text) {
    if (c === "\0" || c === "\ufffd") continue;
    if (/[\s\p{Zs}]/u.test(c)) out += " ";
    else if (/\p{C}/u.test(c)) continue;
    else out += CHINESE.test(c) ? ` ${c} ` : c;
  }
  return out.normalize("NFD").replace(/\p{Mn}/gu, "").toLowerCase();
}

function pieces(word, { ids }) {
  const letters = [...word];
  if (letters.length > 100) return [ids.get("[UNK]")];
  const found = [];
  for (let start = 0; start < letters.length; ) {
    let stop = letters.length;
    const piece = () => (start ? "##" : "") + letters.slice(start, stop).join("");
    while (stop > start && !ids.has(piece())) stop -= 1;
    if (stop === start) return [ids.get("[UNK]")];
    found.push(ids.get(piece()));
    start = stop;
  }
  return found;
}

function idsOf(text, vocabulary) {
  const found = [];
  for (const part of text.split(/(\[(?:PAD|UNK|CLS|SEP|MASK)\])/)) {
    if (SPECIAL.includes(part)) {
      found.push(vocabulary.ids.get(part));
      continue;
    }
    const spaced = [...clean(part)].map((c) => (PUNCTUATION.test(c) ? ` ${c} ` : c)).join("");
    for (const word of spaced.split(" ").filter(Boolean)) found.push(...pieces(word, vocabulary));
  }
  return found;
}

export function tokenize(texts, options, vocabulary) {
  const [pad, cls, sep] = ["[PAD]", "[CLS]", "[SEP]"].map((word) => vocabulary.ids.get(word));
  const special = options.add_special_tokens;
  const rows = texts.map((text) => {
    let ids = idsOf(text, vocabulary);
    if (options.truncation) ids = ids.slice(0, options.max_length - (special ? 2 : 0));
    return special ? [cls, ...ids, sep] : ids;
  });
  const longest = Math.max(...rows.map((row) => row.length));
  const fixed = options.padding === "max_length" ? options.max_length : 0;
  const result = { input_ids: [], attention_mask: [] };
  for (const row of rows) {
    const missing = options.padding ? Math.max(fixed, longest) - row.length : 0;
    const [ids, mask] = [new Array(missing).fill(pad), new Array(missing).fill(0)];
    const left = options.padding_side === "left";
    result.input_ids.push(left ? [...ids, ...row] : [...row, ...ids]);
    const ones = row.map(() => 1);
    result.attention_mask.push(left ? [...mask, ...ones] : [...ones, ...mask]);
  }
  return result;
}

export function detokenize(rows, options, { words }) {
  return rows.map((row) => {
    let text = "";
    let tokens = row.map((id) => words[id]);
    if (options.skip_special_tokens) tokens = tokens.filter((word) => !SPECIAL.includes(word));
    tokens.forEach((word, i) => {
      if (i && word.startsWith("##")) text += word.slice(2);
      else text += (i && !".?!,".includes(word) ? " " : "") + word;
    });
    if (options.clean_up_tokenization_spaces) {
      text = text.replaceAll(" ' ", "'");
      for (const end of ["n't", "'m", "'s", "'ve", "'re"]) text = text.replaceAll(` ${end}`, end);
    }
    return text;
  });
}
