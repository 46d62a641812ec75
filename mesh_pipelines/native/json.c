/* JSON objects of plain fields to columns: what is plain is read here, and all the rest is left to another reader.
 *
 * The other reader is strict, complete and an order of magnitude slower. So this one has no opinion of its own: it reads
 * an object only where every reader would read the same, and refuses it at the first thing that is unusual (a field
 * twice, none of the fields at all, a number out of range or with too many digits, text that is not UTF-8, an instant
 * without a zone, a name with an escape). Who calls it gives what it refuses to the other.
 *
 * The grammar is that of RFC 8259; docs/contract.md has the forms of times, of RFC 3339 and ISO 8601. What is common is
 * read here: an event costs the same whichever of the forms its producer chose.
 */
/* For strtod_l. */
#define _GNU_SOURCE
#include "columns.h"

#include <locale.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#ifdef __APPLE__
#include <xlocale.h>
#endif

#define MAX_NESTING 64
#define MAX_DIGITS 18
#define DAY_US 86400000000LL
/* Microseconds from 1970 to the first and last one of the years 1 to 9999. */
#define FIRST_US (-719162 * DAY_US)
#define LAST_US (2932897 * DAY_US - 1)

typedef enum { TEXT, WHOLE, REAL, REAL_32, TRUTH, DAY, CLOCK, INSTANT, LOCAL_INSTANT } Form;

/* What a number that stands for a day or an instant counts, from 1970 on. */
typedef enum { NO_EPOCH, SECONDS, MILLISECONDS, MICROSECONDS, NANOSECONDS, DAYS } Epoch;

typedef struct {
    PyObject_HEAD
    Node root;
    Form *forms;
    Epoch *epochs;
    /* The names one after the other; where each begins, and the last one ends. */
    char *names;
    Py_ssize_t *name_at;
    /* Fields that were seen in an object, and those that may not be missing from one. */
    uint8_t *seen;
    uint8_t *needed;
    int64_t row_memory;
} Decoder;

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
    int no_memory;
} Reader;

static locale_t c_locale;

/* ---- tokens; each gives -1 where it is not what every reader reads the same ---- */

static void skip_space(Reader *reader) {
    while (reader->at < reader->end &&
           (*reader->at == ' ' || *reader->at == '\t' || *reader->at == '\n' || *reader->at == '\r'))
        reader->at++;
}

/* The next byte that is no space, passed over; -1 at the end. */
static int next_byte(Reader *reader) {
    skip_space(reader);
    return reader->at < reader->end ? *reader->at++ : -1;
}

static int read_word(Reader *reader, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0)
        return -1;
    reader->at += length;
    return 0;
}

static int is_digit_byte(uint8_t byte) { return byte >= '0' && byte <= '9'; }

static int is_digit(const Reader *reader) { return reader->at < reader->end && is_digit_byte(*reader->at); }

static int skip_digits(Reader *reader) {
    if (!is_digit(reader))
        return -1;
    while (is_digit(reader))
        reader->at++;
    return 0;
}

/* Moves past a number; gives whether it is whole, or -1. */
static int skip_number(Reader *reader) {
    int whole = 1;
    if (reader->at < reader->end && *reader->at == '-')
        reader->at++;
    if (reader->at < reader->end && *reader->at == '0')
        reader->at++;
    else if (skip_digits(reader) < 0)
        return -1;
    if (reader->at < reader->end && *reader->at == '.') {
        whole = 0;
        reader->at++;
        if (skip_digits(reader) < 0)
            return -1;
    }
    if (reader->at < reader->end && (*reader->at | 0x20) == 'e') {
        whole = 0;
        reader->at++;
        if (reader->at < reader->end && (*reader->at == '+' || *reader->at == '-'))
            reader->at++;
        if (skip_digits(reader) < 0)
            return -1;
    }
    return whole;
}

/* The length of the UTF-8 sequence of more than one byte that begins here; 0 where it is none (RFC 3629). */
static size_t sequence_length(const uint8_t *at, const uint8_t *end) {
    uint8_t lead = at[0];
    size_t length = lead >= 0xC2 && lead <= 0xDF ? 2 : (lead & 0xF0) == 0xE0 ? 3 : lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
    if (!length || (size_t)(end - at) < length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    if ((lead == 0xE0 && at[1] < 0xA0) || (lead == 0xED && at[1] >= 0xA0) || (lead == 0xF0 && at[1] < 0x90) ||
        (lead == 0xF4 && at[1] >= 0x90))
        return 0;
    return length;
}

/* Moves over text up to a quote or an escape; -1 where it ends, or has what no text has. */
static int skip_plain(Reader *reader) {
    while (reader->at < reader->end) {
        uint8_t byte = *reader->at;
        if (byte == '"' || byte == '\\')
            return 0;
        if (byte < 0x20)
            return -1;
        size_t length = byte < 0x80 ? 1 : sequence_length(reader->at, reader->end);
        if (!length)
            return -1;
        reader->at += length;
    }
    return -1;
}

static int read_hex(Reader *reader, uint32_t *out) {
    if (reader->end - reader->at < 4)
        return -1;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t byte = *reader->at++, low = byte | 0x20;
        int digit = byte >= '0' && byte <= '9' ? byte - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        *out = *out << 4 | (uint32_t)digit;
    }
    return 0;
}

/* Reads what stands behind \u, a pair of surrogates included; half of a pair is none. */
static int read_code(Reader *reader, uint32_t *code) {
    uint32_t low;
    if (read_hex(reader, code) < 0 || (*code >= 0xDC00 && *code <= 0xDFFF))
        return -1;
    if (*code < 0xD800 || *code > 0xDBFF)
        return 0;
    if (read_word(reader, "\\u") < 0 || read_hex(reader, &low) < 0 || low < 0xDC00 || low > 0xDFFF)
        return -1;
    *code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
    return 0;
}

static size_t encode(uint32_t code, uint8_t *out) {
    if (code < 0x80)
        return out[0] = (uint8_t)code, 1;
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, code >>= 6)
        out[i] = (uint8_t)(0x80 | (code & 0x3F));
    out[0] = (uint8_t)((0xF00 >> length) | code);
    return length;
}

/* Reads an escape behind its backslash to at most four bytes; gives their number, or -1. */
static int read_escape(Reader *reader, uint8_t *out) {
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    uint32_t code;
    if (reader->at >= reader->end)
        return -1;
    uint8_t name = *reader->at++;
    if (name == 'u')
        return read_code(reader, &code) < 0 ? -1 : (int)encode(code, out);
    const char *found = name ? strchr(names, name) : NULL;
    if (!found)
        return -1;
    out[0] = (uint8_t)meanings[found - names];
    return 1;
}

/* Reads text behind its opening quote and past the closing one; adds it to `into` where that is not NULL. */
static int read_text(Reader *reader, Bytes *into) {
    for (;;) {
        const uint8_t *begin = reader->at;
        uint8_t escaped[4];
        if (skip_plain(reader) < 0)
            return -1;
        if (into && bytes_append(into, begin, (size_t)(reader->at - begin)) < 0)
            return reader->no_memory = 1, -1;
        if (*reader->at++ == '"')
            return 0;
        int length = read_escape(reader, escaped);
        if (length < 0)
            return -1;
        if (into && bytes_append(into, escaped, (size_t)length) < 0)
            return reader->no_memory = 1, -1;
    }
}

/* Moves past a value of any kind. */
static int skip_value(Reader *reader, int nesting) {
    int first = next_byte(reader), close = first == '{' ? '}' : ']';
    if (first == '"')
        return read_text(reader, NULL);
    if (first == 't')
        return read_word(reader, "rue");
    if (first == 'f')
        return read_word(reader, "alse");
    if (first == 'n')
        return read_word(reader, "ull");
    if (first < 0)
        return -1;
    if (first != '{' && first != '[')
        return reader->at--, skip_number(reader) < 0 ? -1 : 0;
    if (nesting == MAX_NESTING)
        return -1;
    skip_space(reader);
    if (reader->at < reader->end && *reader->at == close)
        return reader->at++, 0;
    for (;;) {
        if (first == '{' && (next_byte(reader) != '"' || read_text(reader, NULL) < 0 || next_byte(reader) != ':'))
            return -1;
        if (skip_value(reader, nesting + 1) < 0)
            return -1;
        int next = next_byte(reader);
        if (next == close)
            return 0;
        if (next != ',')
            return -1;
    }
}

/* ---- values ---- */

/* Reads a number without an exponent, times ten to the power of `shift`, rounded down; gives whether that cut digits
 * that are not zero, or -1. */
static int read_shifted(Reader *reader, int shift, int64_t *out) {
    const uint8_t *digit = reader->at;
    int whole = skip_number(reader), cut = 0;
    if (whole < 0)
        return -1;
    int negative = *digit == '-';
    digit += negative;
    const uint8_t *point = whole ? reader->at : memchr(digit, '.', (size_t)(reader->at - digit));
    if (!point || point - digit + shift > MAX_DIGITS)
        return -1;
    int64_t value = 0;
    for (Py_ssize_t kept = point - digit + (shift < 0 ? shift : 0); kept > 0; kept--)
        value = value * 10 + (*digit++ - '0');
    for (; digit < point; digit++)
        cut |= *digit != '0';
    digit += !whole;
    for (; shift > 0; shift--)
        value = value * 10 + (digit < reader->at && is_digit_byte(*digit) ? *digit++ - '0' : 0);
    for (; digit < reader->at; digit++) {
        if (!is_digit_byte(*digit))
            return -1;
        cut |= *digit != '0';
    }
    *out = negative ? -value - cut : value;
    return cut;
}

static int read_whole(Reader *reader, int64_t *out) { return read_shifted(reader, 0, out) == 0 ? 0 : -1; }

static int read_real(Reader *reader, double *out) {
    const uint8_t *begin = reader->at;
    char digits[64];
    int whole = skip_number(reader);
    if (whole < 0 || (size_t)(reader->at - begin) >= sizeof digits)
        return -1;
    memcpy(digits, begin, (size_t)(reader->at - begin));
    digits[reader->at - begin] = 0;
    *out = strtod_l(digits, NULL, c_locale);
    /* Some readers take -0 for an integer, which has no sign. */
    return isfinite(*out) && !(whole && *begin == '-' && *out == 0) ? 0 : -1;
}

/* Reads so many digits as a number. */
static int read_fixed(Reader *reader, int count, int *out) {
    *out = 0;
    for (int i = 0; i < count; i++) {
        if (!is_digit(reader))
            return -1;
        *out = *out * 10 + (*reader->at++ - '0');
    }
    return 0;
}

static int read_byte(Reader *reader, uint8_t byte) {
    return reader->at < reader->end && *reader->at == byte ? reader->at++, 0 : -1;
}

/* Days from 1970, of the proleptic Gregorian calendar and the years 1 to 9999. */
static int read_day(Reader *reader, int64_t *days) {
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day;
    if (read_fixed(reader, 4, &year) < 0 || read_byte(reader, '-') < 0 || read_fixed(reader, 2, &month) < 0 ||
        read_byte(reader, '-') < 0 || read_fixed(reader, 2, &day) < 0)
        return -1;
    int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (year < 1 || month < 1 || month > 12 || day < 1 ||
        day > lengths[month - 1] + (month == 2 && leap))
        return -1;
    /* The year is taken to begin in March, so that the leap day is its last one. */
    int64_t since = year - (month <= 2), of_era = since % 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    *days = since / 400 * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
    return 0;
}

/* Moves past one of two bytes; -1 where neither is next. */
static int read_either(Reader *reader, uint8_t one, uint8_t other) {
    return read_byte(reader, one) == 0 ? 0 : read_byte(reader, other);
}

/* Microseconds from a fraction of a second behind its point; further digits are cut off. */
static int read_fraction(Reader *reader, int *microseconds) {
    *microseconds = 0;
    if (!is_digit(reader))
        return -1;
    for (int digits = 0; digits < 6; digits++)
        *microseconds = *microseconds * 10 + (is_digit(reader) ? *reader->at++ - '0' : 0);
    while (is_digit(reader))
        reader->at++;
    return 0;
}

/* Microseconds of a day; a time may end with its minutes. */
static int read_clock(Reader *reader, int64_t *microseconds) {
    int hour, minute, second = 0, fraction = 0;
    if (read_fixed(reader, 2, &hour) < 0 || read_byte(reader, ':') < 0 || read_fixed(reader, 2, &minute) < 0)
        return -1;
    if (read_byte(reader, ':') == 0 &&
        (read_fixed(reader, 2, &second) < 0 ||
         (read_either(reader, '.', ',') == 0 && read_fraction(reader, &fraction) < 0)))
        return -1;
    if (hour > 23 || minute > 59 || second > 59)
        return -1;
    *microseconds = ((hour * 60LL + minute) * 60 + second) * 1000000 + fraction;
    return 0;
}

/* Z, or an offset of hours, or of hours and minutes with or without a colon; a blank may stand in front. */
static int read_zone(Reader *reader, int64_t *microseconds) {
    int hours, minutes = 0;
    *microseconds = 0;
    read_byte(reader, ' ');
    if (read_either(reader, 'Z', 'z') == 0)
        return 0;
    int sign = read_byte(reader, '+') == 0 ? 1 : read_byte(reader, '-') == 0 ? -1 : 0;
    if (!sign || read_fixed(reader, 2, &hours) < 0 ||
        ((read_byte(reader, ':') == 0 || is_digit(reader)) && read_fixed(reader, 2, &minutes) < 0) || hours > 23 ||
        minutes > 59)
        return -1;
    *microseconds = sign * (hours * 60LL + minutes) * 60000000;
    return 0;
}

/* Reads a day, a time of day or an instant behind its opening quote. */
static int read_time(Reader *reader, Form form, int64_t *out) {
    int64_t days = 0, clock = 0, zone = 0;
    if (form != CLOCK && read_day(reader, &days) < 0)
        return -1;
    if (form >= INSTANT && read_either(reader, 'T', 't') < 0 && read_byte(reader, ' ') < 0)
        return -1;
    if (form != DAY && read_clock(reader, &clock) < 0)
        return -1;
    if (form == INSTANT && read_zone(reader, &zone) < 0)
        return -1;
    *out = form == DAY ? days : days * DAY_US + clock - zone;
    if (form == INSTANT && (*out < FIRST_US || *out > LAST_US))
        return -1;
    return read_byte(reader, '"');
}

/* Reads a day or an instant that is a number of days or of (parts of) seconds from 1970 on; what is finer is cut off. */
static int read_epoch(Reader *reader, Form form, Epoch epoch, int64_t *out) {
    static const int shifts[] = {[SECONDS] = 6, [MILLISECONDS] = 3, [MICROSECONDS] = 0, [NANOSECONDS] = -3, [DAYS] = 0};
    if (read_shifted(reader, shifts[epoch], out) < 0)
        return -1;
    int64_t unit = epoch == DAYS ? 1 : DAY_US;
    if (*out < FIRST_US / DAY_US * unit || *out > (LAST_US + 1) / DAY_US * unit - 1)
        return -1;
    if (form == DAY)
        *out = (*out - FIRST_US / DAY_US * unit) / unit + FIRST_US / DAY_US;
    return 0;
}

static int keep(Reader *reader, Node *node, const void *value, size_t width) {
    if (bytes_append(&node->values, value, width) < 0 || added(node) < 0)
        return reader->no_memory = 1, -1;
    return 0;
}

static int keep_whole(Reader *reader, Node *node, int64_t value) {
    int32_t narrow = (int32_t)value;
    if (node->kind == LONG)
        return keep(reader, node, &value, sizeof value);
    return narrow == value ? keep(reader, node, &narrow, sizeof narrow) : -1;
}

static int keep_text(Reader *reader, Node *node) {
    if (read_text(reader, &node->values) < 0)
        return -1;
    if (bytes_append_int64(&node->offsets, (int64_t)node->values.size) < 0 || added(node) < 0)
        return reader->no_memory = 1, -1;
    return 0;
}

static int read_value(Reader *reader, Node *node, Form form, Epoch epoch) {
    int64_t whole;
    double real;
    float narrow;
    uint8_t truth;
    skip_space(reader);
    if (read_word(reader, "null") == 0)
        return add_null(node) < 0 ? reader->no_memory = 1, -1 : 0;
    switch (form) {
    case TEXT:
        return read_byte(reader, '"') < 0 ? -1 : keep_text(reader, node);
    case WHOLE:
        return read_whole(reader, &whole) < 0 ? -1 : keep_whole(reader, node, whole);
    case REAL:
        return read_real(reader, &real) < 0 ? -1 : keep(reader, node, &real, sizeof real);
    case REAL_32:
        if (read_real(reader, &real) < 0)
            return -1;
        narrow = (float)real;
        if (!isfinite(narrow))
            return -1;
        return keep(reader, node, &narrow, sizeof narrow);
    case TRUTH:
        truth = read_word(reader, "true") == 0;
        return truth || read_word(reader, "false") == 0 ? keep(reader, node, &truth, 1) : -1;
    default:
        if (read_byte(reader, '"') == 0 ? read_time(reader, form, &whole) < 0
                                        : !epoch || read_epoch(reader, form, epoch, &whole) < 0)
            return -1;
        return keep_whole(reader, node, whole);
    }
}

/* ---- objects ---- */

/* The number of the field of this name; the count of fields where there is none. They mostly come in order. */
static Py_ssize_t find_field(const Decoder *self, const uint8_t *name, Py_ssize_t length, Py_ssize_t expected) {
    Py_ssize_t count = self->root.count;
    for (Py_ssize_t i = 0, at = expected; i < count; i++, at++) {
        if (at >= count)
            at -= count;
        if (self->name_at[at + 1] - self->name_at[at] == length &&
            memcmp(self->names + self->name_at[at], name, (size_t)length) == 0)
            return at;
    }
    return count;
}

/* A name up to its closing quote; one with an escape is left to others. */
static int read_name(Reader *reader, const uint8_t **name, Py_ssize_t *length) {
    if (next_byte(reader) != '"')
        return -1;
    *name = reader->at;
    if (skip_plain(reader) < 0 || *reader->at != '"')
        return -1;
    *length = reader->at++ - *name;
    return next_byte(reader) == ':' ? 0 : -1;
}

static int read_field(Decoder *self, Reader *reader, Py_ssize_t *expected) {
    const uint8_t *name;
    Py_ssize_t length;
    if (read_name(reader, &name, &length) < 0)
        return -1;
    Py_ssize_t field = find_field(self, name, length, *expected);
    if (field == self->root.count)
        return skip_value(reader, 0);
    if (self->seen[field])
        return -1;
    self->seen[field] = 1;
    *expected = field + 1;
    return read_value(reader, &self->root.children[field], self->forms[field], self->epochs[field]);
}

/* An object ends the text, and has one of the fields at least. */
static int finish_object(Decoder *self, Reader *reader, int has_any) {
    skip_space(reader);
    if (reader->at != reader->end || !has_any)
        return -1;
    for (Py_ssize_t i = 0; i < self->root.count; i++) {
        if (self->seen[i])
            continue;
        if (self->needed[i])
            return -1;
        if (add_null(&self->root.children[i]) < 0)
            return reader->no_memory = 1, -1;
    }
    return added(&self->root) < 0 ? reader->no_memory = 1, -1 : 0;
}

static int read_object(Decoder *self, Reader *reader) {
    Py_ssize_t expected = 0;
    memset(self->seen, 0, (size_t)self->root.count);
    if (next_byte(reader) != '{')
        return -1;
    skip_space(reader);
    if (reader->at < reader->end && *reader->at == '}')
        return -1;
    for (;;) {
        if (read_field(self, reader, &expected) < 0)
            return -1;
        int next = next_byte(reader);
        if (next == '}')
            return finish_object(self, reader, expected > 0);
        if (next != ',')
            return -1;
    }
}

static Outcome read_datum(Node *root, const uint8_t *at, const uint8_t *end, int64_t limit, int64_t *memory) {
    (void)limit;
    (void)memory;
    Decoder *self = (Decoder *)((char *)root - offsetof(Decoder, root));
    Reader reader = {.at = at, .end = end};
    if (read_object(self, &reader) == 0)
        return READ;
    return reader.no_memory ? NO_MEMORY : REFUSED;
}

/* ---- the decoder ---- */

static int know_field(Decoder *self, PyObject *field, Py_ssize_t number) {
    const char *name;
    Py_ssize_t length;
    int form, needed, epoch = NO_EPOCH;
    if (!PyTuple_Check(field) || !PyArg_ParseTuple(field, "s#ip|i", &name, &length, &form, &needed, &epoch)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "a field is a tuple");
        return -1;
    }
    char *names = PyMem_Realloc(self->names, (size_t)(self->name_at[number] + length + 1));
    if (!names) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(names + self->name_at[number], name, (size_t)length);
    self->names = names;
    self->name_at[number + 1] = self->name_at[number] + length;
    self->forms[number] = (Form)form;
    self->needed[number] = (uint8_t)needed;
    self->epochs[number] = (Epoch)epoch;
    return 0;
}

/* Whether the columns are those that a form's values go to, and numbers may stand for them as they do. */
static int check_form(Form form, Kind kind, Epoch epoch) {
    static const Kind kinds[] = {[TEXT] = BYTES,      [REAL] = DOUBLE, [REAL_32] = FLOAT, [TRUTH] = BOOLEAN,
                                 [DAY] = INT,         [CLOCK] = LONG,  [INSTANT] = LONG,  [LOCAL_INSTANT] = LONG,
                                 [WHOLE] = LONG};
    int counted = form == DAY ? epoch <= DAYS : form >= INSTANT ? epoch < DAYS : epoch == NO_EPOCH;
    if (form >= TEXT && form <= LOCAL_INSTANT && epoch >= NO_EPOCH && counted &&
        (kind == kinds[form] || (form == WHOLE && kind == INT)))
        return 0;
    PyErr_SetString(PyExc_ValueError, "no form of this decoder");
    return -1;
}

static int know_fields(Decoder *self, PyObject *fields) {
    Py_ssize_t count = self->root.count;
    if (self->root.kind != RECORD || !self->root.keep || PyTuple_GET_SIZE(fields) != count) {
        PyErr_SetString(PyExc_ValueError, "a program is a record with a column for each field");
        return -1;
    }
    self->forms = PyMem_Calloc((size_t)count + 1, sizeof(Form));
    self->epochs = PyMem_Calloc((size_t)count + 1, sizeof(Epoch));
    self->name_at = PyMem_Calloc((size_t)count + 1, sizeof(Py_ssize_t));
    self->seen = PyMem_Calloc((size_t)count + 1, 1);
    self->needed = PyMem_Calloc((size_t)count + 1, 1);
    if (!self->forms || !self->epochs || !self->name_at || !self->seen || !self->needed) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (know_field(self, PyTuple_GET_ITEM(fields, i), i) < 0 ||
            check_form(self->forms[i], self->root.children[i].kind, self->epochs[i]) < 0)
            return -1;
    return 0;
}

static PyObject *decoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"program", "fields", "row_memory", NULL};
    PyObject *program, *fields;
    long long row_memory;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!L", names, &program, &PyTuple_Type, &fields, &row_memory))
        return NULL;
    if (!c_locale)
        c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    Decoder *self = (Decoder *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->row_memory = row_memory;
    if (c_locale && build_node(&self->root, program) == 0 && know_fields(self, fields) == 0)
        return (PyObject *)self;
    if (!PyErr_Occurred())
        PyErr_NoMemory();
    Py_DECREF(self);
    return NULL;
}

static void decoder_dealloc(PyObject *object) {
    Decoder *self = (Decoder *)object;
    clear_node(&self->root);
    PyMem_Free(self->forms);
    PyMem_Free(self->epochs);
    PyMem_Free(self->names);
    PyMem_Free(self->name_at);
    PyMem_Free(self->seen);
    PyMem_Free(self->needed);
    Py_TYPE(object)->tp_free(object);
}

static PyObject *decode(PyObject *object, PyObject *args, PyObject *kwargs) {
    Decoder *self = (Decoder *)object;
    return read_batch(&self->root, read_datum, self->row_memory, args, kwargs);
}

static PyMethodDef decoder_methods[] = {
    {"decode", (PyCFunction)(void (*)(void))decode, METH_VARARGS | METH_KEYWORDS, READ_BATCH_DOC},
    {NULL},
};

PyTypeObject JsonDecoderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "mesh_pipelines.native._native.JsonDecoder",
    .tp_basicsize = sizeof(Decoder),
    .tp_dealloc = decoder_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "JsonDecoder(program, ((name, form, needed, epoch = 0), ...), row_memory): reads JSON objects of plain fields to columns.",
    .tp_methods = decoder_methods,
    .tp_new = decoder_new,
};
