/* The native hot path: Kafka's messages and Avro's datums to columns. */
#include "bytes.h"

extern PyTypeObject ConsumerType;
extern PyTypeObject DecoderType;

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "Kafka's messages and Avro's datums to columns, without an object for each.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__native(void) {
    if (PyType_Ready(&BufferType) < 0)
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && PyModule_AddType(made, &ConsumerType) == 0 && PyModule_AddType(made, &DecoderType) == 0)
        return made;
    Py_XDECREF(made);
    return NULL;
}
