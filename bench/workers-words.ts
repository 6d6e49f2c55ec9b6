/** Word: 1 when the thread runs. */
export const WORD_READY = 0;
/** Word: number of the last question. */
export const WORD_ASKED = 1;
/** Word: the answer to it. */
export const WORD_ANSWER = 2;
/** Word: 1 when the thread is to end. */
export const WORD_STOP = 3;
/** Bytes of them all. */
export const WORDS_BYTES = 16;

/** What question number `asked`, from 1 on, is answered by; never 0, never the one before. */
export const answerTo = (asked: number): number => Math.imul(asked, 0x9e37_79b1) | 1;
